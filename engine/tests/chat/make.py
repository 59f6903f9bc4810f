"""Makes the golden conversations of `chat.rs` with transformers.

    pip install transformers jinja2
    python engine/tests/chat/make.py       # writes golden.json and tokenizer.json beside this file

The templates have the shapes of those in use (ChatML with a default system message, headers with a
date, instructions between brackets, one that rewrites earlier answers) and exercise what they
exercise: white space control, Python's methods, slices, `tojson`, loop controls, `raise_exception`,
`strftime_now`, `{% generation %}` tags. transformers' mask of the assistant's tokens comes from these tags;
the trainer must find the same tokens without them.
"""

import datetime
import json
import pathlib

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
SPECIAL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<s>", "</s>",
]

CHATML = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou guide boats.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" and not message.tool_calls %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- generation -%}
        {{- message.content + '<|im_end|>' }}
        {%- endgeneration -%}
        {{- '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

HEADERS = r"""{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
        {{- message['content'] | trim + '<|eot_id|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

FIRST = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are small.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

BRACKETS = r"""{{ bos_token }}{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}
    {% endif %}
    {% if message['role'] == 'user' %}
[INST] {{ message['content'].strip() }} [/INST]{% else %}
{% generation %} {{ message['content'].strip() + eos_token }}{% endgeneration %}{% endif %}
{% endfor %}
"""

PYTHON = r"""{%- set ns = namespace(last_user=-1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' %}
        {%- set ns.last_user = messages|length - loop.index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{#- a comment, and what Python does to strings -#}
{{- ns.last_user ~ ' ' ~ messages[0].content.split(' ')[0].upper() ~ ' ' ~ tools is none }}
{{ messages | tojson }}
{{ messages[0] | tojson(indent=2) }}
{%- for key, value in messages[0].items() %}
    {%- if value is string and not value.startswith('zz') %}
{{ key }}={{ value[:3] | title }};
    {%- else %}
        {%- continue %}
    {%- endif %}
{%- endfor %}
{{- none }} {{ true }} {{ missing }}|{{ messages | map(attribute='role') | join(',') }}|
{%- macro shout(text) %}{{ text | upper }}!{% endmacro %}
{{- shout('row') }}
"""

REWRITES = r"""{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' and not loop.last %}
        {{- message.content.split('</think>')[-1].lstrip('\n') }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""

TEMPLATES = {
    "chatml": (CHATML, None, "<|im_end|>"),
    "headers": (HEADERS, "<|begin_of_text|>", "<|eot_id|>"),
    "first": (FIRST, "<|im_start|>", "<|im_end|>"),
    "brackets": (BRACKETS, "<s>", "</s>"),
    "python": (PYTHON, None, "</s>"),
    "rewrites": (REWRITES, None, "<|im_end|>"),
}


def says(*texts):
    roles = ["user", "assistant"]
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


CONVERSATIONS = [
    says("Where does the Amazon end?", "In the Atlantic."),
    says("hi", "hello", " two\nlines ", "\nünïcode – <b>\"quoted\" & 'single'</b> 🙂\n"),
    [{"role": "system", "content": " Be brief. "}] + says("a?", "b", "c?", "d"),
    says("think", "<think>hm</think>\n\nyes", "again", "<think>ho</think>\n\nno"),
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    + [{"role": "assistant", "content": "three"}],
]


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(SPECIAL + alphabet)}
    merges = [("\u0120", "t"), ("h", "e"), ("\u010a", "\u010a")]
    vocab |= {a + b: len(vocab) + i for i, (a, b) in enumerate(merges)}
    out = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    out.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    out.decoder = decoders.ByteLevel()
    out.add_special_tokens(SPECIAL)
    return out


def case(tokenizer, messages):
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:
        return {"messages": messages, "error": str(error)}
    invited = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    out = {"messages": messages, "text": text, "invited": invited}
    if "endgeneration" in tokenizer.chat_template:
        encoded = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        out |= {"ids": encoded["input_ids"], "learned": encoded["assistant_masks"]}
    return out


def main():
    backend = tokenizer()
    backend.save(str(HERE / "tokenizer.json"))
    golden = {
        "transformers": transformers.__version__,
        "days": (datetime.date.today() - datetime.date(1970, 1, 1)).days,
        "templates": [],
    }
    for name, (template, bos, eos) in TEMPLATES.items():
        fast = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token=bos, eos_token=eos, chat_template=template
        )
        cases = [case(fast, messages) for messages in CONVERSATIONS]
        print(name, ["error" if "error" in c else sum(c.get("learned", [])) for c in cases])
        golden["templates"].append(
            {"name": name, "template": template, "bos": bos, "eos": eos, "cases": cases}
        )
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
