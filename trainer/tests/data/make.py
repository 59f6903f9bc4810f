"""Makes the Parquet tables that `data/read/tests.rs` reads.

    pip install pyarrow
    python trainer/tests/data/make.py       # writes the tables beside this file
"""

import pathlib

import pyarrow
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent


def write(name, rows, compression, **more):
    path = HERE / f"{name}-{compression}.parquet"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), path, compression=compression, row_group_size=40,
        write_statistics=False, **more,
    )
    print(path.name, path.stat().st_size)


PAIRS = [
    {"id": 1, "prompt": "Where is it?", "completion": "Up the river."},
    {"id": 2, "prompt": "And then?", "completion": " "},
]
PAIRS += [
    {"id": i, "prompt": f"question {i}", "completion": f"answer {i * i}"} for i in range(3, 62)
]
TALKS = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    {"messages": [{"role": "user", "content": "anyone?"}]},
]

if __name__ == "__main__":
    write("pairs", PAIRS, "snappy")
    write("pairs", PAIRS, "zstd")
    write("pairs", PAIRS, "brotli")
    write("talks", TALKS, "gzip")
    write("talks", TALKS, "zstd", data_page_version="2.0")
