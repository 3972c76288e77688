"""Typical wrong answers to problem set 1: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # spell
    {
        "task": "spell",
        "name": "no dummy prefix",
        "change": [('(" " + text)', "text")],
        "fails": "test-spell",
        "says": "dummy prefix",
    },
    {
        "task": "spell",
        "name": "unknown characters are lost",
        "change": [('[f"<0x{byte:02X}>" for byte in char.encode()]', '["<unk>"]')],
        "fails": "test-spell",
        "says": "byte fallback",
    },
    {
        "task": "spell",
        "name": "lower-case digits",
        "change": [("02X", "02x")],
        "fails": "test-spell",
        "says": "<0xC3>",
    },
    {
        "task": "spell",
        "name": "one digit for small bytes",
        "change": [(":02X}", ":X}")],
        "fails": "test-spell-more",
        "says": "0x09 and not 0x9",
    },
    {
        "task": "spell",
        "name": "spaces at the start are stripped",
        "change": [('(" " + text)', '(" " + text.strip())')],
        "fails": "test-spell-more",
        "says": "spaces are kept one by one",
    },
    {
        "task": "spell",
        "name": "newlines as in the alphabet, like the library",
        "change": [(' and char not in "\\t\\n"', "")],
        "fails": "test-spell-more",
        "says": "tabs and newlines are bytes",
    },
    {
        "task": "spell",
        "name": "code points in place of bytes",
        "change": [("for byte in char.encode()", "for byte in [ord(char)]")],
        "fails": "test-spell",
        "says": "UTF-8 bytes",
    },
    {
        "task": "spell",
        "name": "a prefix for the empty text",
        "change": [("if not text:", "if False:")],
        "fails": "test-spell",
        "says": "nothing in, nothing out",
    },
    # merge
    {
        "task": "merge",
        "name": "counts words once, however frequent",
        "change": [("+ joins * frequency", "+ joins")],
        "fails": "test-merge",
        "says": "occurs four times counts four times",
    },
    {
        "task": "merge",
        "name": "counts neighbours, like the chapter",
        "change": [
            ("joins = len(symbols) - len(_join(symbols, pair))", "joins = list(zip(symbols, symbols[1:])).count(pair)")
        ],
        "fails": "test-merge-more",
        "says": "count what a join does",
    },
    {
        "task": "merge",
        "name": "ties by the order of the dict",
        "change": [("min(ranked)[-1]", "min(ranked, key=lambda row: row[0])[-1]")],
        "fails": "test-merge",
        "says": "the shorter joined text wins",
    },
    {
        "task": "merge",
        "name": "the longer text wins a tie",
        "change": [("(-n, len(a + b)", "(-n, -len(a + b)")],
        "fails": "test-merge",
        "says": "the shorter joined text wins",
    },
    {
        "task": "merge",
        "name": "equal words overwrite each other",
        "change": [("joined.get(new, 0) + frequency", "frequency")],
        "fails": "test-merge-more",
        "says": "their counts add up",
    },
    {
        "task": "merge",
        "name": "never stops",
        "change": [("if n >= at_least", "")],
        "fails": "test-merge",
        "says": "training stops",
    },
    {
        "task": "merge",
        "name": "changes the dict it was given",
        "change": [("    return pair, joined", "    cuts.clear()\n    cuts.update(joined)\n    return pair, joined")],
        "fails": "test-merge-more",
        "says": "build a new dict",
    },
    # encode
    {
        "task": "encode",
        "name": "the lowest score first",
        "change": [("(-scores[joined], i)", "(scores[joined], i)")],
        "fails": "test-encode",
        "says": "the best score first",
    },
    {
        "task": "encode",
        "name": "the longest piece first",
        "change": [
            ("(-scores[joined], i)", "(-len(joined), scores[joined], i)"),
            ("min(candidates)[1]", "min(candidates)[-1]"),
        ],
        "fails": "test-encode",
        "says": "the best score first",
    },
    {
        "task": "encode",
        "name": "the first pair from the left",
        "change": [("(-scores[joined], i)", "(0, i)")],
        "fails": "test-encode-more",
        "says": "comes first from the left",
    },
    {
        "task": "encode",
        "name": "the rightmost on ties",
        "change": [
            ("(-scores[joined], i)", "(-scores[joined], -i)"),
            ("i = min(candidates)[1]", "i = -min(candidates)[1]"),
        ],
        "fails": "test-encode-more",
        "says": "leftmost pair is joined first",
    },
    {
        "task": "encode",
        "name": "joins bytes",
        "change": [(" and not is_byte[i] and not is_byte[i + 1]", "")],
        "fails": "test-encode-more",
        "says": "a byte symbol is not text",
    },
    {
        "task": "encode",
        "name": "no journal",
        "change": [("journal.append(symbols[i])", "pass")],
        "fails": "test-encode",
        "says": "journal",
    },
    {
        "task": "encode",
        "name": "eats its argument",
        "change": [("symbols, journal = list(symbols), []", "journal = []")],
        "fails": "test-encode-more",
        "says": "eats its argument",
    },
    {
        "task": "encode",
        "name": "loops for ever",
        "code": "def encode(symbols, scores):\n    while True:\n        pass",
        "fails": "test-encode",
        "says": "timed out",
    },
    # decode
    {
        "task": "decode",
        "name": "bytes one by one",
        "change": [
            ("data += bytes([int(digits, 16)])", 'data += bytes([int(digits, 16)]).decode(errors="replace").encode()')
        ],
        "fails": "test-decode",
        "says": "decode them together",
    },
    {
        "task": "decode",
        "name": "all spaces at the start dropped",
        "change": [('.removeprefix(" ")', ".lstrip()")],
        "fails": "test-decode-more",
        "says": "only one is dropped",
    },
    {
        "task": "decode",
        "name": "crashes on half a character",
        "change": [(', errors="backslashreplace"', "")],
        "fails": "test-decode-more",
        "says": "UnicodeDecodeError",
    },
    {
        "task": "decode",
        "name": "replacement characters, like the library",
        "change": [("backslashreplace", "replace")],
        "fails": "test-decode-more",
        "says": "show the bytes",
    },
    {
        "task": "decode",
        "name": "finds bytes and control pieces in the joined text",
        "code": """
import re

def decode(pieces):
    text = "".join(pieces).replace("<s>", "").replace("</s>", "").replace(SPACE, " ")
    text = re.sub("((?:<0x[0-9A-F]{2}>)+)", lambda m: bytes.fromhex(re.sub("<0x|>", "", m[1])).decode(
        errors="backslashreplace"), text)
    return text.removeprefix(" ")
""",
        "fails": "test-decode-more",
        "says": "decide piece by piece",
    },
    {
        "task": "decode",
        "name": "control pieces are shown",
        "change": [('if piece in ("<s>", "</s>"):', "if False:")],
        "fails": "test-decode",
        "says": "begin and end",
    },
    # price
    {
        "task": "price",
        "name": "characters in place of bytes",
        "change": [("len(s.encode())", "len(s)")],
        "fails": "test-price-more",
        "says": "bytes, not characters",
    },
    {
        "task": "price",
        "name": "tokens per byte",
        "change": [("size[language] / n,", "n / size[language],")],
        "fails": "test-price-more",
        "says": "one token",
    },
    {
        "task": "price",
        "name": "the premium upside down",
        "change": [("n / tokens[reference]", "tokens[reference] / n")],
        "fails": "test-price",
        "says": "relative to those of the reference",
    },
    {
        "task": "price",
        "name": "a mean of ratios",
        "code": """
def price(count_tokens, texts, reference):
    out = {}
    for language, sentences in texts.items():
        counts = [count_tokens(s) for s in sentences]
        ratios = [n / count_tokens(r) for n, r in zip(counts, texts[reference])]
        out[language] = (sum(len(s.encode()) for s in sentences) / sum(counts), sum(ratios) / len(ratios))
    return out
""",
        "fails": "test-price-more",
        "says": "a mean of ratios",
    },
    {
        "task": "price",
        "name": "English is always the reference",
        "change": [("tokens[reference]", "next(iter(tokens.values()))")],
        "fails": "test-price-more",
        "says": "any language can be the reference",
    },
    {
        "task": "price",
        "name": "rounded",
        "change": [("n / tokens[reference])", "round(n / tokens[reference]))")],
        "fails": "test-price-more",
        "says": "12 tokens against 10",
    },
]
