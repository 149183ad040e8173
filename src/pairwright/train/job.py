"""The verb `train`: data and settings in, a model directory out; killed and called again, it goes on.

OUTPUT/model/          the model, its tokenizer, its card, `generation_goal.json` where it takes goals
OUTPUT/adapter/        the LoRA adapter, where there is one (`model/` has it merged in)
OUTPUT/base/           where a new adapter was put on a merged one: the model that it stands on
OUTPUT/metrics.jsonl   one line for each logged step, and one for each probe
OUTPUT/probes/         what the model said of held-out pairs as it was trained, with `probe_every`
OUTPUT/checkpoints/    while it runs; removed at the end unless `keep_checkpoints`
OUTPUT/training.json   settings as resolved, versions, what was dropped, digests; written last
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwright.errors import InputError, need
from pairwright.goals import GoalFormat
from pairwright.logprobs.columns import placement_for
from pairwright.logprobs.digest import model_digest
from pairwright.logprobs.models import Dtype, no_bars, open_config, open_model, open_tokenizer
from pairwright.logprobs.ranks import is_first
from pairwright.logprobs.stored import check_tokens
from pairwright.logprobs.tokenise import Limits
from pairwright.preferences import Preferences
from pairwright.runs import digest_file, digest_of, versions, write_beside, write_json
from pairwright.train.cards import model_card
from pairwright.train.config import TrainConfig, in_one_sentence, resolve
from pairwright.train.data import group_examples, pair_examples, point_examples
from pairwright.train.examples import Examples
from pairwright.train.losses import Said, sources_of
from pairwright.train.origin import reference_of
from pairwright.train.output import claim, look, remove_checkpoints
from pairwright.train.policy import has_adapter, open_policy, whole_policy, write_adapter
from pairwright.train.probing import Probing, probing_of, stopped_at, watchers
from pairwright.train.ranks import by_first, launched
from pairwright.train.wants import check_judged

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainingArguments

    from pairwright.losses import Asks
    from pairwright.train.reference import Reference
    from pairwright.train.trainer import PairTrainer

_HOUSEKEEPING = frozenset(
    {
        "dataloader_num_workers",
        "dataloader_persistent_workers",
        "dataloader_pin_memory",
        "dataloader_prefetch_factor",
        "disable_tqdm",
        "hub_model_id",
        "hub_token",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "logging_dir",
        "project",
        "push_to_hub",
        "report_to",
        "run_name",
        "save_total_limit",
        "trackio_space_id",
    }
)
"""Settings of the trainer that decide neither weights nor metrics; `logging_steps` decides what `metrics.jsonl` has."""
_PROBES = ("probe_every", "probe_pairs", "probe_split", "stop_rule")
"""Settings of the run that decide what is probed; `Prepared.probes` stands for them."""
_SPREAD = ("ACCELERATE_USE_FSDP", "FSDP_VERSION", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DEEPSPEED_ZERO_STAGE")
"""What a launcher says of how a model is spread over processes; one way's checkpoint is none of another's."""
_TOKENIZER = (
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "vocab*",
    "merges*",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
)
"""Files of a tokenizer."""


@dataclass(frozen=True)
class TrainedModel:
    """Where a training run left its results. As a path it is its model directory.

    Attributes:
        directory: of the run.
        model: the model directory, for `from_pretrained` or `generate`.
        metrics: the metrics file.
        config: the settings as resolved.
        examples: pairs or answers trained on.
        dropped: those that were not, by reason.
    """

    directory: Path
    model: Path
    metrics: Path
    config: TrainConfig
    examples: int
    dropped: dict[str, int]

    def __fspath__(self) -> str:
        """The model directory."""
        return str(self.model)

    def __str__(self) -> str:
        """The model directory: transformers takes the text of whatever it is to open."""
        return str(self.model)


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start: everything decided, nothing written.

    Attributes:
        config: the settings as resolved.
        examples: the data as tokens.
        tokenizer: of the model.
        limits: lengths in tokens.
        reference: `none`, `columns`, `store`, `frozen`, `adapter_off` or `adapter_before`.
        goal: how goals are said, with the placement decided; None where there are none.
        mark: digest of everything that decides the weights.
        origin: where the reference's numbers come from, in words; empty where there are none.
        probing: what it is probed with as it goes on; None where it is not.
    """

    config: TrainConfig
    examples: Examples
    tokenizer: Any
    limits: Limits
    reference: str
    goal: GoalFormat | None
    mark: str
    origin: str = ""
    probing: Probing | None = None

    @property
    def probes(self) -> str:
        """Digest of what it is probed with; empty where it is not."""
        return "" if self.probing is None else self.probing.digest

    @property
    def name(self) -> str:
        """Digest of all that it leaves behind: weights and probes."""
        return hashlib.sha256((self.mark + self.probes).encode()).hexdigest() if self.probes else self.mark


def train(
    prefs: Preferences, *, model: str | Path, loss: Said = "dpo", output: str | Path | None = None, **settings: Any
) -> TrainedModel:
    """Train a model on preferences.

    A run that was killed goes on from its last whole checkpoint when it is called again with the same data and
    settings; on a CPU it ends with the same weights and metrics as one that was never killed. A finished one is not
    trained again: its result is given. Under `accelerate launch` all processes call this and train one model; the
    first one writes.

    Args:
        prefs: the data, as it came from `pair`, `select` or `relabel`.
        model: the model to start from: a `save_pretrained` directory, a hub name, the directory of a PEFT adapter, or
            a `TrainedModel`.
        loss: a loss of `pairwright list losses`, or `module:function`; or a list of terms that are summed, each with
            its own settings, such as `{name: dpo, weight: 0.8, beta: 0.1}`.
        output: directory of the run; `runs/train-<loss>-<digest>` when not given.
        settings: fields of `TrainConfig`, settings of the loss, names of Hugging Face's `TrainingArguments`.

    Raises:
        InputError: a setting is unknown, data or model do not fit, or `output` holds another training or what is of
            none.
        PairwrightError: the loss stopped being a number.
    """
    prepared = prepare(prefs, resolve(model=model, loss=loss, **settings))
    short = "+".join(term.name.rsplit(":", 1)[-1] for term in prepared.config.terms)
    return fit(prefs, prepared, Path(output) if output else Path("runs") / f"train-{short}-{prepared.name[:8]}")


def prepare(prefs: Preferences, config: TrainConfig) -> Prepared:
    """Decide everything about a run: tokens, limits, reference, placement of goals. Nothing is written.

    Raises:
        InputError: data, model and settings do not fit each other, or the loss refuses the scores or goals of the data.
    """
    from pairwright.losses import asks
    from pairwright.train.trial import try_data

    tokenizer = open_tokenizer(config.tokenizer or config.model)
    limits = Limits.of(open_config(config.model), config.max_length, config.max_prompt_length)
    reference, origin = reference_of(prefs, config)
    asked = asks(config.bound_loss())
    if "anchor" in asked.needs:
        config = config.model_copy(update={"anchor_goal": _anchor(prefs, config)})
    examples = _examples(prefs, config, tokenizer, limits, reference)
    if asked.needs & {"score", "scores"} or any(":" in term.name for term in config.terms):
        try_data(config.bound_loss(), examples.rows, config.examples)
    examples = examples._replace(notes=(*examples.notes, *_of_micro_batches(config, asked)))
    goal = _goal(prefs, tokenizer) if config.examples == "pairs" else None
    check_tokens(
        [ids for row in examples.rows for ids in (row.prompt, *row.answers, *(row.anchor or ()))], config.model
    )
    if config.reference_model is not None:
        from pairwright.train.reference import check_vocabulary

        check_vocabulary(open_config(config.model), open_config(config.reference_model), longest=limits.max_length)
    probing = probing_of(prefs, config, tokenizer, limits, goal)
    mark = _mark(config, examples, reference, probing)
    return Prepared(config, examples, tokenizer, limits, reference, goal, mark, origin, probing)


def _examples(prefs: Preferences, config: TrainConfig, tokenizer: Any, limits: Limits, reference: str) -> Examples:
    """The data as tokens, with all that the loss asks for."""
    from pairwright.losses import asks

    asked = asks(config.bound_loss())
    every: dict[str, Any] = {"split": config.split, "limits": limits, "truncate": config.truncate}
    every["reference"] = config.reference_name if reference == "columns" else None
    score = config.score if "score" in asked.needs or config.threshold is not None else None
    strangers: dict[str, Any] = {"strangers": asked.baseline == "mismatched_kl", "seed": config.seed}
    if config.examples == "responses":
        return point_examples(prefs, tokenizer, score=score, threshold=config.threshold, **strangers, **every)
    if config.examples == "groups":
        return group_examples(prefs, tokenizer, score=score, scores=asked.scores, **every)
    check_judged(prefs, [term.name for term in config.terms])
    goal = config.anchor_goal
    return pair_examples(prefs, tokenizer, score=score, scores=asked.scores, anchor=goal, **strangers, **every)


def _of_micro_batches(config: TrainConfig, asked: "Asks") -> tuple[str, ...]:
    """What a reader should know where a loss sees one micro-batch at a time, and a step has several."""
    parts = int(config.trainer.get("gradient_accumulation_steps", 1))
    notes = []
    if asked.of_batch and parts * launched() > 1:
        notes.append(
            f"the loss compares the rows of one micro-batch of one process, of which a step has {parts * launched()}; "
            "in other parts the same step has another loss"
        )
    if asked.baseline is not None and parts > 1:
        what = {
            "mismatched_kl": "the estimate of KL is of one micro-batch",
            "running_mean": "the mean of rewards goes on from micro-batch to micro-batch",
        }[asked.baseline]
        notes.append(f"{what}, of which a step has {parts}; in other parts the same step has another loss")
    return tuple(notes)


def _anchor(prefs: Preferences, config: TrainConfig) -> float | tuple[float, ...]:
    """The goal that generation will ask for: the one that is said, or the top of the data's format.

    Raises:
        InputError: the pairs ask for no goals, or for goals of other parts.
    """
    form = prefs.goal_format
    if form is None:
        raise InputError(f"loss {config.loss_name!r} needs pairs that ask for a goal; relabel the data first")
    try:
        goal = form.canonical(form.best if config.anchor_goal is None else config.anchor_goal)
    except InputError as error:
        raise InputError(f"anchor_goal: {error}") from error
    return tuple(map(float, goal)) if isinstance(goal, Sequence) else float(goal)


def _mark(config: TrainConfig, examples: Examples, reference: str, probing: Probing | None) -> str:
    """SHA-256 of all that decides the weights: settings, data, processes, and models by content, wherever they stand.

    The reference's numbers are no part of it: where they come from is, and their last bits differ between machines. A
    loss by its name and a list of just this loss are the same; one's own has the file that it stands in. Probes decide
    no weight, unless a rule may end the training by them.
    """
    facts = config.model_dump(mode="json") | {"data": examples.digest(), "reference": reference}
    for name in ("keep_checkpoints", "loss_settings", "divergence", "weighting", *_PROBES):
        del facts[name]
    if config.stop_rule and probing is not None:
        facts["stop_rule"] = [*config.stop_rule, probing.digest]
    facts["loss"] = [term.model_dump(mode="json") for term in config.terms]
    facts["sources"] = sources_of(config.terms)
    facts["trainer"] = {name: value for name, value in facts["trainer"].items() if name not in _HOUSEKEEPING}
    facts |= {"processes": launched(), "precision": os.environ.get("ACCELERATE_MIXED_PRECISION", "no")}
    facts["spread"] = {name: os.environ[name] for name in _SPREAD if os.environ.get(name, "false") != "false"}
    for name, digest in (("model", model_digest), ("reference_model", model_digest), ("tokenizer", _tokenizer_digest)):
        place = facts[name]
        facts[name] = digest(Path(place)) if place and Path(place).is_dir() else place
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _tokenizer_digest(folder: Path) -> str:
    """Digest of the files in a directory that are a tokenizer's; a model's weights and a README may lie beside them."""
    files = {path.name: path for pattern in _TOKENIZER for path in folder.glob(pattern) if path.is_file()}
    return digest_of({name: digest_file(path) for name, path in files.items()})


def fit(
    prefs: Preferences, prepared: Prepared, output: Path, *, callbacks: "Sequence[TrainerCallback]" = ()
) -> TrainedModel:
    """Run a prepared training, or go on with it, and write its results.

    Args:
        prefs: the data, for its lineage.
        prepared: by `prepare`.
        output: directory of the run.
        callbacks: of transformers, besides ours.
    """
    from pairwright.train.callbacks import MetricsFile, Progress

    config, metrics, examples = prepared.config, output / "metrics.jsonl", prepared.examples
    if Path(config.model).is_dir() and Path(config.model).resolve() == output.resolve():
        raise InputError(f"{output} is the directory of the model to start from; choose another output")
    args = _arguments(config, output / "checkpoints")
    known = examples.reference_sums()
    found = by_first(lambda: look(output, prepared.mark, known, probes=prepared.probes))
    done = TrainedModel(output, output / "model", metrics, config, len(examples.rows), examples.dropped)
    if found.finished:
        if is_first():
            print(f"train: {output} holds this very training, finished; nothing was trained again", file=sys.stderr)
    else:
        watching = [MetricsFile(metrics), Progress(_summary(prepared))]
        trainer = make_trainer(prepared, output / "checkpoints", args=args, callbacks=watching)
        for each in (*watchers(prepared.probing, config, output, trainer), *callbacks):
            trainer.add_callback(each)
        by_first(lambda: claim(output, prepared.mark, known, anew=found.checkpoint is None, probes=prepared.probes))
        with no_bars():
            if found.checkpoint is None:
                trainer.train()
            else:
                trainer.go_on_from(found.checkpoint, ended_at=_ended_at(output, config))
        if trainer.state.global_step not in (trainer.state.max_steps, _ended_at(output, config)):
            return done
        trainer.check_finite()
        with no_bars():
            policy = whole_policy(trainer, config)
            by_first(lambda: _save(policy, prefs, prepared, done, trainer.state.global_step))
    if not config.keep_checkpoints and is_first():
        remove_checkpoints(output)
    return done


def _ended_at(output: Path, config: TrainConfig) -> int | None:
    """The step after which a rule ended the training; None where none did. The same on all processes."""
    why = by_first(lambda: stopped_at(output, config))
    return None if why is None else int(why["step"])


def _summary(prepared: Prepared) -> str:
    """What is trained on and what is not, in a line."""
    examples, config = prepared.examples, prepared.config
    lost = "".join(f"; {count:,} dropped: {reason}" for reason, count in examples.dropped.items())
    notes = "".join(f"; {note}" for note in examples.notes)
    origin = f"; reference: {prepared.origin}" if prepared.origin else ""
    return f"train: {len(examples.rows):,} {config.examples} of split {config.split!r}{lost}{notes}{origin}"


def make_trainer(
    prepared: Prepared,
    checkpoints: Path,
    *,
    args: "TrainingArguments | None" = None,
    callbacks: "Sequence[TrainerCallback]" = (),
) -> "PairTrainer":
    """The trainer of a prepared run: model, adapter and reference opened, nothing trained yet."""
    transformers = need("transformers", extra="train")
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from pairwright.train.callbacks import LastStep
    from pairwright.train.trainer import PairTrainer

    config = prepared.config
    args = args or _arguments(config, checkpoints)
    batch, rows = args.train_batch_size * args.world_size, prepared.examples.rows
    if args.dataloader_drop_last and len(rows) < batch:
        raise InputError(
            f"dataloader_drop_last leaves no batch: there are {len(rows)} {config.examples} for batches of {batch}; "
            "lower per_device_train_batch_size or leave dataloader_drop_last out"
        )
    if prepared.reference == "store":
        from pairwright.train.reference import with_stored

        rows = with_stored(
            rows, model=config.reference_model or config.model, dtype=_computed_in(config.dtype, args.mixed_precision)
        )
    transformers.set_seed(config.seed)
    policy = open_policy(config, keep_before=prepared.reference == "adapter_before")
    reference, movers = _reference(prepared)
    trainer = PairTrainer(
        policy,
        args,
        rows,
        config.bound_loss(),
        kind=config.examples,
        reference=reference,
        mark=prepared.mark,
        callbacks=[LastStep(), *movers, *callbacks],
    )
    if movers and trainer.is_spread:
        raise InputError(
            "reference_mix needs all weights in each process, and here they are spread; leave it out, or use the "
            "profile ddp"
        )
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not trainer.is_fsdp_enabled:
        raise InputError("the launcher asks for FSDP, which accelerate has for GPUs only; use the profile ddp")
    for watcher in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(watcher)
    return trainer


def _computed_in(weights: Dtype, mixed: str) -> Dtype:
    """The precision that the policy computes in: the reference's, where it is computed beforehand."""
    ways: dict[str, Dtype] = {"bf16": "bfloat16", "fp16": "float16"}
    return ways.get(mixed, weights)


def _arguments(config: TrainConfig, checkpoints: Path) -> "TrainingArguments":
    """The trainer's settings. Where a launcher started several processes, they are joined here.

    Raises:
        InputError: a setting cannot be, or the processes cannot be joined.
    """
    torch: Any = need("torch", extra="train")
    transformers = need("transformers", extra="train")
    own = {"output_dir": str(checkpoints), "seed": config.seed, "data_seed": config.seed, "disable_tqdm": True}
    own |= {"remove_unused_columns": False, "dataloader_pin_memory": torch.cuda.is_available()}
    if {os.environ.get(name) for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")} == {"true"}:
        raise InputError(
            "fsdp_cpu_ram_efficient_loading gives all processes but the first a model without weights, and a reference "
            "needs them; set it to false (as `pairwright list profiles` has it)"
        )
    own |= {"use_cpu": True} if launched() > 1 and not torch.accelerator.is_available() else {}
    with in_one_sentence():
        args = transformers.TrainingArguments(**(own | config.trainer))
        joined = args.world_size
    # One process is one device. Several devices are several processes: accelerate launch.
    args._n_gpu = min(args.n_gpu, 1)
    if joined != launched():
        raise InputError(
            f"the launcher started {launched()} processes and {joined} could be joined; leave use_cpu and the "
            "backend to `accelerate launch`, or start one process"
        )
    return args  # type: ignore[no-any-return]


def _reference(prepared: Prepared) -> "tuple[Reference, list[TrainerCallback]]":
    """The reference, and what moves it."""
    from pairwright.train import reference
    from pairwright.train.sync import SyncReference

    config = prepared.config
    if prepared.reference == "frozen":
        # Opened again, not copied: after a checkpoint was loaded the policy is no longer the model at the start.
        model = open_model(config.reference_model or config.model, dtype=config.dtype)
        mix, every = config.reference_mix, config.reference_every
        movers: list[TrainerCallback] = [] if mix is None else [SyncReference(model, mix=mix, every=every)]
        return reference.frozen(model), movers
    ways: dict[str, Reference] = {
        "none": reference.none,
        "columns": reference.columns,
        "store": reference.columns,
        "adapter_off": reference.adapter_off,
        "adapter_before": reference.adapter_before,
    }
    return ways[prepared.reference], []


def _goal(prefs: Preferences, tokenizer: Any) -> GoalFormat | None:
    form = prefs.goal_format
    return None if form is None else form.model_copy(update={"placement": placement_for(form, tokenizer)})


def _save(policy: Any, prefs: Preferences, prepared: Prepared, done: TrainedModel, steps: int) -> None:
    """Write the adapter, the model, then `training.json`."""
    config: TrainConfig = prepared.config

    def beside(folder: Path) -> None:
        prepared.tokenizer.save_pretrained(folder)
        if prepared.goal is not None:
            (folder / "generation_goal.json").write_text(prepared.goal.model_dump_json(indent=2) + "\n", "utf-8")

    if has_adapter(config):
        policy = write_adapter(policy, config, done.directory, beside=beside)
    policy.config.use_cache = True  # the trainer switches it off; whoever generates wants it
    lines = [json.loads(line) for line in done.metrics.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "loss" in line]
    card = model_card(
        config,
        lineage=prefs.lineage,
        examples=done.examples,
        dropped=done.dropped,
        notes=prepared.examples.notes,
        reference=prepared.reference.replace("_", " "),
        origin=prepared.origin,
        goal=prepared.goal,
        last=lines[-1] if lines else {},
    )
    with write_beside(done.model) as temporary:
        policy.save_pretrained(temporary)
        beside(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    write_json(done.directory / "training.json", _record(prefs, prepared, done, steps=steps))


def _record(prefs: Preferences, prepared: Prepared, done: TrainedModel, *, steps: int) -> Mapping[str, Any]:
    lineage = [step.model_dump(mode="json") for step in prefs.lineage]
    return {
        "config": prepared.config.model_dump(mode="json"),
        "limits": prepared.limits._asdict(),
        "reference": prepared.reference,
        "origin": prepared.origin,
        "goal": None if prepared.goal is None else prepared.goal.model_dump(mode="json"),
        "examples": done.examples,
        "dropped": done.dropped,
        "notes": list(prepared.examples.notes),
        "steps": steps,
        "data": prepared.examples.digest(),
        "reference_sums": prepared.examples.reference_sums(),
        "processes": launched(),
        "lineage": hashlib.sha256(json.dumps(lineage, sort_keys=True).encode()).hexdigest(),
        "run": prepared.mark,
        "probes": prepared.probes,
        "stopped": stopped_at(done.directory, prepared.config),
        "versions": versions(),
    }
