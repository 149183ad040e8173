"""Tokenizers of every family, trained on the spot, each with a template that fits it."""

from collections.abc import Callable
from typing import Any

TEXT = (
    "User: count the red words in this list. Assistant: one, two, three and four words are red. "
    "ﬁne Café naïve 12 345 \n\n  def f(x):\n    return x  # done\n"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' </s>' }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
WORDS = (
    "{% for m in messages %}{{ m['role'] | capitalize + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
BARE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
TURNS = "{{ '<s>' }}{% for m in messages %}{{ m['content'] + '</s>' }}{% endfor %}"
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def byte_level(template: str = CHATML, *, prefix: bool = False, added: tuple[Any, ...] = (), **settings: Any) -> Any:
    """Byte-level BPE with merges, as of GPT-2, Llama 3 and Qwen."""
    import tokenizers as t

    core = t.Tokenizer(t.models.BPE(**settings))
    core.pre_tokenizer = t.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    core.decoder = t.decoders.ByteLevel()
    alphabet = sorted(t.pre_tokenizers.ByteLevel.alphabet())
    trainer = t.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([TEXT] * 4, trainer)
    core.add_tokens(list(added))
    return wrapped(core, template)


def word_piece(template: str = CHATML) -> Any:
    """WordPiece with a normalizer that lowers case and strips accents, as of BERT."""
    import tokenizers as t

    core = t.Tokenizer(t.models.WordPiece(unk_token="<unk>"))
    core.normalizer = t.normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    core.pre_tokenizer = t.pre_tokenizers.BertPreTokenizer()
    core.decoder = t.decoders.WordPiece()
    trainer = t.trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIALS, show_progress=False)
    core.train_from_iterator([TEXT] * 4, trainer)
    return wrapped(core, template)


def unigram(template: str = LLAMA_2, *, scheme: str = "first") -> Any:
    """Unigram with spaces as marks, as of T5, Mistral and Gemma."""
    import tokenizers as t

    core = t.Tokenizer(t.models.Unigram())
    core.normalizer = t.normalizers.Sequence([t.normalizers.Nmt(), t.normalizers.NFKC()])
    core.pre_tokenizer = t.pre_tokenizers.Metaspace(prepend_scheme=scheme)
    core.decoder = t.decoders.Metaspace()
    trainer = t.trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    core.train_from_iterator([TEXT] * 4, trainer)
    return wrapped(core, template)


def sentence_piece(template: str = LLAMA_2) -> Any:
    """BPE over the whole text with a mark put before it, no pre-tokenizer and bytes for the rest, as of Llama 2."""
    import tokenizers as t

    pieces = SPECIALS + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += sorted(set(TEXT.replace(" ", "▁") + "[INST]/") - set("\n"))
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("r", "e"), ("re", "d"), ("▁", "red"), ("]", "▁"), ("▁", "▁")]
    pieces += [a + b for a, b in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    core = t.Tokenizer(t.models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = t.normalizers.Sequence([t.normalizers.Prepend("▁"), t.normalizers.Replace(" ", "▁")])
    core.decoder = t.decoders.Sequence([t.decoders.Replace("▁", " "), t.decoders.ByteFallback(), t.decoders.Fuse()])
    core.add_special_tokens(SPECIALS)
    return wrapped(core, template)


def byte_by_byte(template: str = WORDS) -> Any:
    """A tokenizer in Python alone, as of ByT5."""
    from transformers import ByT5Tokenizer

    made = ByT5Tokenizer(bos_token="<s>")
    made.chat_template = template
    return made


def wrapped(core: Any, template: str | None, **settings: Any) -> Any:
    """A tokenizer as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | settings
    made = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **named)
    made.chat_template = template
    return made


def odd_tokens() -> tuple[Any, ...]:
    """Added tokens that overlap each other and the special ones, take space, ask for words, or are normalised."""
    import tokenizers as t

    return (
        t.AddedToken("<|im_start|>user", normalized=False),
        t.AddedToken("x<|im", normalized=False),
        t.AddedToken("x</", normalized=False),
        t.AddedToken("\n", normalized=False),
        t.AddedToken("done", single_word=True, normalized=False),
        t.AddedToken("<pad>", lstrip=True, rstrip=True, normalized=False),
        t.AddedToken("red words"),
    )


MADE: dict[str, Callable[[], Any]] = {
    "byte-level, header after the border": byte_level,
    "byte-level, border at the end": lambda: byte_level(TURNS),
    "byte-level, no border": lambda: byte_level(WORDS),
    "byte-level, nothing between prompt and answer": lambda: byte_level(BARE),
    "byte-level, a space before each piece": lambda: byte_level(prefix=True),
    "byte-level, tokens that overlap": lambda: byte_level(added=odd_tokens()),
    "byte-level, a token that hides the last border": lambda: byte_level(TURNS, added=odd_tokens()),
    "word piece": word_piece,
    "word piece, no border": lambda: word_piece(WORDS),
    "unigram, mark at the first": unigram,
    "unigram, mark at every piece": lambda: unigram(scheme="always"),
    "unigram, header": lambda: unigram(CHATML),
    "unigram, no border": lambda: unigram(WORDS),
    "sentence piece": sentence_piece,
    "sentence piece, header": lambda: sentence_piece(CHATML),
    "sentence piece, no border": lambda: sentence_piece(WORDS),
    "Python": byte_by_byte,
    "Python, no border": lambda: byte_by_byte(BARE),
}
