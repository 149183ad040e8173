"""Every layout gives the loss and the gradients of padded rows, for every shape of model that matters."""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Exaone4Config,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PhimoeConfig,
    Qwen2Config,
    Qwen3Config,
    RecurrentGemmaConfig,
)

from pairwright.errors import PairwrightError
from pairwright.logprobs import attention, core, head, layout
from pairwright.logprobs.attention import BLOCK, Forest, Tree, block_mask, use_forest_attention
from pairwright.logprobs.core import Batch, answer_logps, layout_of, token_values
from pairwright.logprobs.head import CHUNK
from pairwright.logprobs.layout import LAYOUTS

VOCABULARY = 97
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CAPPED: dict[str, Any] = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "llama_tied": lambda: LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=8),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=5),
    "gemma2": lambda: Gemma2Config(**SHAPE, head_dim=8, sliding_window=5, **CAPPED),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2
    ),
    "cohere": lambda: CohereConfig(**SHAPE, logit_scale=0.25),
    "granite": lambda: GraniteConfig(**SHAPE, logits_scaling=3.0),
}
# The windows are shorter than the prompts and the answers; one answer is a single token; owners are out of order.
PROMPT_LENGTHS, OWNER, ANSWER_LENGTHS = (13, 4, 21), (0, 1, 2, 0, 1, 2, 2, 0), (9, 1, 12, 3, 17, 5, 2, 14)


def made(kind: str, *, seed: int = 0, trees: bool = True) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind]()).eval()
    if trees:
        assert use_forest_attention(model)
    return model


def sample(seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)

    def ids(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=draw).tolist()

    return Batch.of([ids(n) for n in PROMPT_LENGTHS], [ids(n) for n in ANSWER_LENGTHS], OWNER)


def loss_of(logp: torch.Tensor) -> torch.Tensor:
    """DPO's loss of neighbouring answers, with a reference that is not the model."""
    ref = torch.arange(len(logp)) * -3.0
    ratio = logp - ref
    return -F.logsigmoid(0.1 * (ratio[0::2] - ratio[1::2])).mean()


def plain(model: Any, batch: Batch) -> torch.Tensor:
    """The definition: each answer alone, full logits, no code of ours."""
    prompts, answers = (
        batch.prompt_ids.split(batch.prompt_lengths.tolist()),
        batch.answer_ids.split(batch.answer_lengths.tolist()),
    )
    sums = []
    for owner, answer in zip(batch.answer_prompt.tolist(), answers, strict=True):
        ids = torch.cat([prompts[owner], answer])[None]
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        at = torch.arange(len(prompts[owner]), ids.shape[1])
        sums.append(logits.log_softmax(-1)[at - 1, answer].sum())
    return torch.stack(sums)


def both(model: Any, compute: Callable[[], torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = loss_of(compute())
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def apart(model: Any, batch: Batch, name: Any) -> tuple[float, float]:
    """How far a layout is from the definition: in the loss, and in any gradient."""
    loss, grads = both(model, lambda: answer_logps(model, batch, layout=name).logp)
    expected, wanted = both(model, lambda: plain(model, batch))
    assert grads.keys() == wanted.keys()
    return abs(loss - expected), max(float((grads[k] - wanted[k]).abs().max()) for k in wanted)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_loss_and_gradients_are_those_of_each_answer_alone(kind: str, name: Any) -> None:
    loss, grad = apart(made(kind), sample(), name)
    assert loss < 1e-5
    assert grad < 1e-5


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("keep", [0, 2**25])
def test_a_head_in_many_chunks_changes_nothing(
    kind: str, name: Any, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHUNK, "cpu", 1)  # 32 tokens a chunk: the sample has 63
    monkeypatch.setattr(head, "KEEP", keep)
    loss, grad = apart(made(kind), sample(), name)
    assert loss < 1e-5
    assert grad < 1e-5


@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_rows_are_what_a_model_of_ours_gets(kind: str) -> None:
    assert layout_of(made(kind)) == "packed"
    assert layout_of(made(kind, trees=False)) == "forest"


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_attention_changes_nothing_where_there_is_no_forest(kind: str) -> None:
    before, after = made(kind, trees=False), made(kind)
    ids = torch.arange(3, 43).view(2, 20)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    with torch.no_grad():
        expected = before(input_ids=ids, attention_mask=mask).logits
        found = after(input_ids=ids, attention_mask=mask).logits
        written = [m.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False) for m in (before, after)]
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-6, rtol=1e-5)
    assert torch.equal(*written)


def test_a_model_that_does_not_mix_by_attention_alone_reads_padded_rows_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert not use_forest_attention(model)
    assert layout_of(model) == "padded"
    assert "MambaForCausalLM reads padded rows" in capsys.readouterr().err
    layout_of(model)
    assert capsys.readouterr().err == ""  # once for a model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_that_leaks_along_the_row_is_found_out(dtype: torch.dtype, capsys: pytest.CaptureFixture[str]) -> None:
    model = made("llama").to(dtype)
    model.model.layers[1].mlp.register_forward_hook(lambda m, i, out: out + out.cumsum(1) * 0.3)
    assert layout_of(model) == "padded"
    assert "answers move each other by" in capsys.readouterr().err


WINDOWED: dict[str, Callable[[], Any]] = {
    # A window that only some layers hand on, one that none does, and one that counts places in the row.
    "exaone4": lambda: Exaone4Config(**SHAPE | {"num_hidden_layers": 4}, sliding_window=24, sliding_window_pattern=4),
    "phimoe": lambda: PhimoeConfig(**SHAPE, sliding_window=24, num_local_experts=4),
    "gpt_neo": lambda: GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=24,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=24),
}


@pytest.mark.parametrize("kind", WINDOWED)
def test_a_window_that_a_tree_is_longer_than_is_tried_before_it_is_trusted(kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(WINDOWED[kind]()).eval()
    use_forest_attention(model)
    layout_of(model)  # of short trees: says nothing of long ones
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=draw).tolist()

    batch = Batch.of([ids(n) for n in (40, 4, 31)], [ids(n) for n in (30, 35, 50, 28, 37, 1)], [0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        torch.testing.assert_close(answer_logps(model, batch).logp, plain(model, batch), atol=1e-4, rtol=1e-5)


def test_what_stands_behind_a_head_and_is_not_known_is_left_to_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    config = RecurrentGemmaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        lru_width=32,
        logits_soft_cap=1.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        found, expected = answer_logps(model, sample()).logp, plain(model, sample())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert "does more behind its head" in capsys.readouterr().err


def test_two_threads_with_one_model_do_not_meet_in_its_head() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, batch = made("llama"), sample()
    with torch.no_grad():
        expected = answer_logps(model, batch).logp

    def once(_: int) -> torch.Tensor:
        with torch.no_grad():
            return answer_logps(model, batch).logp

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(once, range(24)):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert "forward" not in model.lm_head.__dict__


@pytest.mark.parametrize(("prompts", "answers"), [([[]], [[3]]), ([[3]], [[]]), ([], []), ([[3]], [])])
def test_a_batch_without_a_token_is_refused_in_a_sentence(prompts: Any, answers: Any) -> None:
    with pytest.raises(PairwrightError, match="a batch needs a token of each"):
        Batch.of(prompts, answers, [0] * len(answers))


# What a fault looks like: each is planted, and the comparison above must see it.


def shifted(batch: Batch, model: Any) -> Any:
    rows = layout.packed(batch, model)
    return rows._replace(position=torch.where(rows.position >= 13, rows.position + 1, rows.position))


def without_first(batch: Batch, model: Any) -> Any:
    rows = layout.packed(batch, model)
    where = rows.where.clone()
    starts = torch.tensor([0, *ANSWER_LENGTHS]).cumsum(0)[:-1]
    where[starts] += 1  # the first token predicted from itself, and not from the prompt's last
    return rows._replace(where=where)


def one_too_far(self: Forest, queries: int, keys: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + 1)  # one token of the future
    return torch.zeros(queries, keys, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def no_window(self: Forest, queries: int, keys: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    return true_mask(self, queries, keys, None, dtype)


true_mask = Forest.mask
FAULTS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "position": ("llama", lambda patch: patch.setitem(LAYOUTS, "packed", shifted)),
    "first token": ("llama", lambda patch: patch.setitem(LAYOUTS, "packed", without_first)),
    "mask": ("llama", lambda patch: patch.setattr(Forest, "mask", one_too_far)),
    "window": ("mistral", lambda patch: patch.setattr(Forest, "mask", no_window)),
    "absolute position": ("gpt2", lambda patch: patch.setitem(LAYOUTS, "packed", shifted)),
    "cap": ("gemma2", lambda patch: patch.setattr(attention, "_capped_product", uncapped)),
}


def uncapped(q: Any, k: Any, v: Any, mask: Any, scaling: Any, dropout: Any, softcap: Any) -> torch.Tensor:
    return attention._scaled_product(q, k, v, mask, scaling, dropout, None)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, plant = FAULTS[fault]
    model, batch = made(kind), sample()
    expected = plain(model, batch).detach()
    plant(monkeypatch)
    found = answer_logps(model, batch, layout="packed").logp.detach()
    assert float((loss_of(found) - loss_of(expected)).abs()) > 1e-4


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", LAYOUTS)
def test_gradient_checkpointing_gives_the_same_gradients(name: Any) -> None:
    model, batch = made("gemma2"), sample()
    expected, wanted = both(model, lambda: answer_logps(model, batch, layout=name).logp)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss, grads = both(model, lambda: answer_logps(model, batch, layout=name).logp)
    assert loss == pytest.approx(expected, abs=1e-6)
    for key, grad in wanted.items():
        torch.testing.assert_close(grads[key], grad, atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "lm_head"]])
def test_an_adapter_trains_alike_in_every_layout(targets: Any) -> None:
    import peft

    model = made("llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    model.eval()
    assert layout_of(model) == "packed"
    batch = sample()
    expected, wanted = both(model, lambda: answer_logps(model, batch, layout="padded").logp)
    assert all("lora" in name for name in wanted)
    for name in ("packed", "forest"):
        loss, grads = both(model, lambda name=name: answer_logps(model, batch, layout=name).logp)
        assert loss == pytest.approx(expected, abs=1e-5)
        for key, grad in wanted.items():
            torch.testing.assert_close(grads[key], grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_autocast_computes_in_bfloat16_and_sums_in_float32(kind: str) -> None:
    model, batch = made(kind), sample()
    exact = answer_logps(model, batch).logp
    model = made(kind)  # seen for the first time under autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert layout_of(model) == "packed"
        loss, grads = both(model, lambda: answer_logps(model, batch).logp)
        found = {name: answer_logps(model, batch, layout=name).logp for name in LAYOUTS}
    assert math.isfinite(loss)
    assert all(grad.dtype == torch.float32 for grad in grads.values())
    for logp in found.values():
        assert logp.dtype == torch.float32
        torch.testing.assert_close(logp, exact, atol=0.3, rtol=0.02)
    assert not torch.equal(found["packed"], exact)  # it was bfloat16 indeed


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_rounding_of_half_precision_is_not_taken_for_a_disagreement(kind: str) -> None:
    from accelerate.utils import convert_outputs_to_fp32

    assert layout_of(made(kind).bfloat16()) == "packed"
    model = made(kind)
    exact = answer_logps(model, sample()).logp
    model = made(kind)
    # As accelerate prepares a model for mixed precision.
    model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(model.forward))
    assert layout_of(model) == "packed"
    assert not torch.equal(answer_logps(model, sample()).logp, exact)  # it was bfloat16 indeed


def test_nothing_of_the_replaced_head_is_left() -> None:
    model, batch = made("gemma2"), sample()
    before = model.config.to_dict()
    answer_logps(model, batch)
    assert model.config.to_dict() == before
    assert "forward" not in model.lm_head.__dict__
    model.model.layers[2].register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        answer_logps(model, batch, layout="packed")
    assert model.config.final_logit_softcapping == 3.0
    assert "forward" not in model.lm_head.__dict__


def broken(*_: Any) -> None:
    raise RuntimeError("broken")


def test_each_prompt_is_computed_once_in_a_packed_row() -> None:
    model, batch = made("llama"), sample()
    seen = []
    hook = model.model.layers[0].register_forward_hook(lambda m, i, out: seen.append(i[0].shape[1]))
    answer_logps(model, batch, layout="packed")
    hook.remove()
    assert seen == [batch.tokens] == [sum(PROMPT_LENGTHS) + sum(ANSWER_LENGTHS)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_head_sees_the_answers_tokens_alone(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    monkeypatch.setattr(core, "token_logps", lambda head, hidden, targets: rows.append(len(hidden)) or hidden[:, 0])
    answer_logps(made("llama"), sample(), layout=name)
    assert rows == [sum(ANSWER_LENGTHS)]


def test_values_of_tokens_and_their_spread_are_those_of_full_logits() -> None:
    model, batch = made("gemma2"), sample()
    with torch.no_grad():
        found = token_values(model, batch, top=10)
        start = 0
        prompts = batch.prompt_ids.split(batch.prompt_lengths.tolist())
        for owner, answer in zip(OWNER, batch.answer_ids.split(list(ANSWER_LENGTHS)), strict=True):
            ids = torch.cat([prompts[owner], answer])[None]
            logp = model(input_ids=ids).logits[0, len(prompts[owner]) - 1 : -1].double().log_softmax(-1)
            part = slice(start, start := start + len(answer))
            p = logp.exp().sort(-1, descending=True).values
            mass = p[:, :10].sum(-1)
            among = p[:, :10] / mass[:, None]
            expected = logp.gather(-1, answer[:, None])[:, 0]
            torch.testing.assert_close(found.logp[part].double(), expected, atol=1e-5, rtol=1e-5)
            assert found.spread is not None
            torch.testing.assert_close(found.spread.entropy[part].double(), -(p * p.log()).sum(-1), atol=1e-5, rtol=0)
            torch.testing.assert_close(found.spread.top_mass[part].double(), mass, atol=1e-5, rtol=0)
            torch.testing.assert_close(
                found.spread.top_entropy[part].double(), -(among * among.log()).sum(-1), atol=1e-5, rtol=0
            )
    assert start == sum(ANSWER_LENGTHS)


def test_a_vocabulary_smaller_than_k_has_all_its_mass_in_the_top() -> None:
    model, batch = made("llama"), sample()
    with torch.no_grad():
        found = token_values(model, batch, top=1000).spread
    assert found is not None
    torch.testing.assert_close(found.top_mass, torch.ones(sum(ANSWER_LENGTHS)))
    torch.testing.assert_close(found.top_entropy, found.entropy, atol=1e-5, rtol=0)


def forests() -> Iterator[tuple[str, list[Tree]]]:
    yield "many small trees in a block", [Tree(3, (2, 1)), Tree(5, (4,)), Tree(1, (1, 1, 1))] * 20
    yield "a prompt of several blocks", [Tree(3 * BLOCK + 7, (BLOCK + 3, 5, 2 * BLOCK))]
    yield "blocks that hold ends of branches", [Tree(BLOCK - 1, (BLOCK, BLOCK + 1)), Tree(2 * BLOCK, (1, BLOCK))]


@pytest.mark.parametrize("window", [None, 5, BLOCK + 1])
@pytest.mark.parametrize(("name", "trees"), list(forests()))
def test_the_block_mask_leaves_out_no_token_that_is_seen(name: str, trees: list[Tree], window: int | None) -> None:
    width = -(-sum(t.tokens for t in trees) // BLOCK) * BLOCK
    blocks = block_mask(Forest(trees, width, torch.device("cpu")), window)
    seen = torch.zeros(width, width, dtype=torch.bool)
    start = 0
    for tree in trees:  # by the definition: each answer sees its prompt and itself, causally, within the window
        ends = [tree.prompt]
        for length in tree.answers:
            ends.append(ends[-1] + length)
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            for q in range(begin, end):
                at = q if begin == 0 else tree.prompt + q - begin
                for k in [*range(tree.prompt), *range(begin, end)] if begin else range(end):
                    to = k if k < tree.prompt else tree.prompt + k - begin
                    seen[start + q, start + k] = to <= at and (window is None or to > at - window)
        start += tree.tokens
    seen[start:, start:] = torch.ones(width - start, width - start).tril().bool()
    if window is not None:
        seen[start:, start:] &= torch.ones(width - start, width - start).triu(1 - window).bool()
    index = torch.arange(width)
    by_rule = blocks.mask_mod(torch.tensor(0), torch.tensor(0), index[:, None], index[None, :])
    assert torch.equal(by_rule, seen)
    each = seen.view(width // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(1, 2)
    listed = blocks.to_dense()[0, 0].bool()
    assert not (each.any(-1).any(-1) & ~listed).any()
    assert blocks.full_kv_num_blocks is not None
    assert blocks.full_kv_indices is not None
    for q, count in enumerate(blocks.full_kv_num_blocks[0, 0].tolist()):
        for k in blocks.full_kv_indices[0, 0, q, :count].tolist():
            assert each[q, k].all()


def test_blocks_of_other_answers_and_other_trees_are_left_out() -> None:
    trees = [Tree(2 * BLOCK, (2 * BLOCK,) * 4), Tree(2 * BLOCK, (2 * BLOCK,) * 4)]
    blocks = block_mask(Forest(trees, 20 * BLOCK, torch.device("cpu")), None)
    # A prompt's two rows see 1 + 2 blocks; an answer's two rows see the prompt's two, and 1 + 2 of their own.
    assert int(blocks.to_dense().sum()) == 2 * (3 + 4 * (4 + 3))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 6])
def test_flex_attention_is_attention_by_segments(window: int | None, softcap: float | None) -> None:
    trees = [Tree(13, (9, 3, 14)), Tree(4, (1, 17)), Tree(21, (12, 5, 2))]
    total = sum(t.tokens for t in trees)
    width = -(-total // BLOCK) * BLOCK
    forest = Forest(trees, width, torch.device("cpu"))
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, width, 8, generator=draw) for heads in (4, 2, 2))
    expected = attention._by_segments(q, k, v, forest, 0.3, 0.0, softcap, window)[:, :total]
    found = attention._by_blocks(q, k, v, forest, 0.3, softcap, window)[:, :total]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow  # compiles C++
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
def test_flex_attention_is_not_compiled_for_each_length() -> None:
    from torch._dynamo.utils import counters

    attend, draw = attention._flex(True), torch.Generator().manual_seed(0)
    counters.clear()
    programs = []
    for blocks in (4, 6, 11, 3):
        width = blocks * BLOCK
        forest = Forest([Tree(width // 3, (width // 4, 17)), Tree(30, (5, width // 5))], width, torch.device("cpu"))
        q, k, v = (torch.randn(1, heads, width, 16, generator=draw) for heads in (4, 2, 2))
        total = sum(t.tokens for t in forest.trees)
        expected = attention._by_segments(q, k, v, forest, None, 0.0, None, None)[:, :total]
        with torch.no_grad():
            found = attend(q, k, v, block_mask=forest.blocks(None), enable_gqa=True).transpose(1, 2)[:, :total]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        programs.append(counters["stats"]["unique_graphs"])
    assert programs == [1, 2, 2, 2]  # the first for one length, the second for all


def test_a_bare_module_without_a_head_is_read_by_its_logits() -> None:
    class Uniform(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, VOCABULARY))

    logp = core.answer_logps(Uniform(), sample()).logp
    assert logp.tolist() == pytest.approx([-n * math.log(VOCABULARY) for n in ANSWER_LENGTHS])


def test_processes_that_share_a_model_try_everything_at_their_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else one would call the shared model, which is a meeting of all, when only its own batch is long.
    tried = []
    monkeypatch.setattr(core, "_tried", lambda model, inner, window: tried.append(window) or "packed")
    model = made("mistral")
    monkeypatch.setattr(core, "together", lambda: True)
    short = Batch.of([[3]], [[4]], [0])
    layout_of(model, short)
    assert tried == [None, 5]
    layout_of(model, sample())
    assert tried == [None, 5]
