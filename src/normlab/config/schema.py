"""Every key of a run's configuration, its type, its default and its meaning.

The YAML under ``configs/`` only says what differs from these defaults. Units: steps are optimizer steps,
batch sizes are sequences over all devices, lengths are tokens.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from normlab.config.architecture import ModelConfig
from normlab.config.launch import LaunchConfig
from normlab.placement.init import check_init
from normlab.placement.resolve import resolve
from normlab.placement.schema import Init, InitSpec, Placement, Strict

Beta = Annotated[float, Field(ge=0, lt=1)]


class NormConfig(Strict):
    """The run's norm type: what ``n`` in a placement stands for."""

    name: str = "rmsnorm"
    type: str | None = None  # None: as the name; a file in configs/norm may be a type with other options
    eps: float = Field(1e-5, gt=0)
    options: dict[str, float | int | bool | str] = {}  # of the type: see `normlab norms show NAME`
    allow_noncausal: bool = False  # types that mix positions or sequences see the future in training
    files: dict[str, str] = {}  # the user's own Python files that hold the types in use, and digests; found, not set

    @property
    def kind(self) -> str:
        """The registered type."""
        return self.type or self.name


class TokenizerConfig(Strict):
    """``bytes``, ``bpe`` (trained on the train split and cached), ``file`` (a tokenizer.json) or ``hub``."""

    kind: Literal["bytes", "bpe", "file", "hub"] = "bpe"
    vocab_size: int = Field(4096, ge=257)  # for bpe
    name: str | None = None  # file: a path; hub: namespace/name
    train_bytes: int = Field(32_000_000, ge=1000)  # bpe is trained on at most this much text


class DataConfig(Strict):
    """Where the text comes from and how it becomes tokens."""

    name: str = "unnamed"
    source: Literal["stdlib", "files", "hub"] = "stdlib"
    paths: list[str] = []  # files: train texts, paths or globs (.txt, .jsonl, .parquet)
    val_paths: list[str] = []  # files: validation texts; empty: a share of the train documents
    text_field: str = "text"  # column of jsonl, parquet and hub rows
    hub_id: str | None = None  # hub: namespace/name
    hub_config: str | None = None
    hub_revision: str | None = None
    split: str = "train"
    val_split: str | None = None  # hub: None: a share of the train documents
    streaming: bool = False
    val_fraction: float = Field(0.05, gt=0, lt=1)  # share of documents held out, chosen by their content's hash
    max_bytes: int | None = Field(None, ge=1000)  # stop reading the train text after this many bytes of UTF-8
    tokenizer: TokenizerConfig = TokenizerConfig()
    cache_dir: str | None = None  # None: $NORMLAB_CACHE, else the user's cache folder
    workers: int | None = Field(None, ge=1)  # threads that tokenize; None: one per core, at most 8

    @model_validator(mode="after")
    def _source_is_complete(self) -> DataConfig:
        if self.source == "files" and not self.paths:
            raise ValueError("the source `files` needs data.paths, for example data.paths=[texts/*.txt]")
        if self.source != "files" and (self.paths or self.val_paths):
            raise ValueError(f"data.paths is read by data=files only, and the source here is {self.source}")
        if self.source == "hub" and not self.hub_id:
            raise ValueError("the source `hub` needs data.hub_id, for example data.hub_id=Salesforce/wikitext")
        if self.source != "hub" and self.hub_id:
            raise ValueError(f"data.hub_id is read by data.source=hub only, and the source here is {self.source}")
        if self.tokenizer.kind in ("bytes", "bpe") and self.tokenizer.name:
            raise ValueError("data.tokenizer.name needs data.tokenizer.kind=file or hub")
        if self.tokenizer.kind in ("file", "hub") and not self.tokenizer.name:
            raise ValueError(f"data.tokenizer.kind={self.tokenizer.kind} needs data.tokenizer.name")
        return self


class OptimConfig(Strict):
    """AdamW and its schedule. Which parameters decay is decided by module type and slot, never by a name."""

    name: str = "adamw"
    lr: float = Field(3e-3, gt=0)  # peak
    min_lr_ratio: float = Field(0.1, ge=0, le=1)  # final LR / peak LR
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    decay_share: float = Field(0.2, gt=0, le=1)  # wsd: share of the run that decays
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    decay_gains: bool = True  # norm gains, biases and learned scales (HybridNorm and OLMo 2 decay them)
    decay_embeddings: bool = False
    grad_clip: float | None = Field(1.0, gt=0)


class TrainConfig(Strict):
    """How long, on what, how precisely."""

    steps: int = Field(200, ge=1)
    batch_size: int = Field(16, ge=1)  # sequences per optimizer step
    micro_batch_size: int | None = Field(None, ge=1)  # sequences per forward; None: batch_size
    seq_len: int = Field(128, ge=2)
    z_loss: float = Field(0.0, ge=0)  # weight of (log Z)^2, PaLM
    parallel: Literal["auto", "none", "ddp", "fsdp"] = "auto"  # several processes, by torchrun; auto: ddp
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the processor has it in hardware
    compile: Literal["auto", "on", "off"] = "auto"
    cuda_graph: bool = False  # on a GPU, launch a step's kernels at once: for networks so small that launching is slow
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)  # CPU threads; None: all cores

    @property
    def sequences_per_forward(self) -> int:
        return self.micro_batch_size or self.batch_size

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> TrainConfig:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"train.micro_batch_size={self.micro_batch_size} does not divide train.batch_size={self.batch_size}"
            )
        return self


class EvalConfig(Strict):
    """Validation on fixed windows: the same tokens for every run on the same data."""

    every: int = Field(100, ge=1)  # steps
    windows: int = Field(64, ge=1)  # sequences of seq_len tokens, spread evenly over the validation text


class ObserveConfig(Strict):
    """What is measured besides the loss. None of it changes a number of the run."""

    flush_every: int = Field(20, ge=1)  # steps whose scalars stay on the device before one bulk read
    probe_every: int = Field(100, ge=1)  # steps between looks inside the layers
    probe_at: list[int] = [1, 10, 100]  # and at these steps besides; the last step always
    deep_at: list[int] = []  # steps with a deep look: ranks, gradients, each layer left out; the last step always
    probe_sequences: int = Field(2, ge=1)  # sequences of the frozen probe batch
    init_batches: int = Field(0, ge=0)  # batches whose mean gradient is measured before the first step


class CheckpointConfig(Strict):
    """What a cut run resumes from."""

    every: int = Field(200, ge=1)
    keep: int = Field(2, ge=1)


class WandbConfig(Strict):
    """auto: online where there is a login, offline where there is none."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "normlab"
    entity: str | None = None
    tags: list[str] = []
    histograms: bool = False  # of weights and gradients by kind of matrix, at every look
    pictures: list[str] = [  # of probes.jsonl, what is drawn over depth and steps when the run ends; ["*"]: everything
        *("grad_norm", "update_ratio", "ffn.rms_sum", "ffn.rms_out", "stream.max_abs", "stream.kurtosis"),
        *("stream.token_cosine", "attn.max_logit", "attn.entropy", "angular_distance", "removal_loss"),
    ]


class Config(Strict):
    """One run, whole."""

    experiment: str = Field("scratch", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    scale: str = "cpu"  # a label of size and budget: configs/scale/NAME.yaml
    preset: str | None = None  # a label of a released model: configs/preset/NAME.yaml
    seed: int = Field(0, ge=0, lt=2**31)
    placement: Placement = Placement()
    norm: NormConfig = NormConfig()
    init: Init = "recipe"  # recipe: the placement's own
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    observe: ObserveConfig = ObserveConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    wandb: WandbConfig = WandbConfig()
    launch: LaunchConfig = LaunchConfig()
    runs_dir: str = "runs"

    @property
    def recipe_init(self) -> str | InitSpec:
        """The initialisation in force: ``init``, or the placement's own where that says ``recipe``."""
        return self.placement.init if self.init == "recipe" else self.init

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Config:
        if self.optim.warmup_steps > self.train.steps:
            raise ValueError(
                f"optim.warmup_steps={self.optim.warmup_steps} is longer than the run, "
                f"train.steps={self.train.steps}; warm-up is usually at most a tenth of it"
            )
        if self.train.cuda_graph and self.model.n_experts:
            raise ValueError(
                "train.cuda_graph=true is not for model.n_experts, whose rows may be counted on the host; leave it out"
            )
        # Says now, and not after the data is prepared, that a slot holds a bad operation or expression.
        resolve(self.placement, self.model.n_layers, self.model.d_model, self.model.d_head)
        check_init(self.recipe_init, self.model.n_layers, self.model.d_model)
        return self
