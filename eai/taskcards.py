"""What each task is: plain generation, a benchmark of the catalog, an offline set of ours, or a user's file of items.

Task, version, few-shot setting and limit are part of a configuration's key: scores and EORs of different keys are never compared.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from eai import items
from eai.errors import UserError

GENERATE = "generate"
KIND_METRICS = {"choice": "acc", "open": "exact_match", "text": "word_perplexity"}
SETS = Path(str(files("eai"))) / "workload" / "tasks" / "sets"


@dataclass(frozen=True)
class TaskCard:
    """One task as it is run.

    `metric`: what its score is; `version`: as lm-eval or we count it, of a user's file its digest; `few_shot`: worked examples in the
    prompt unless the sweep says otherwise; `examples`: how many there are (None: as many as asked for); `path`: a user's file, else None;
    `harness`: lm-eval's own name where it brings the items, else empty; `chance`: expected score of a guess (None: varies, or no score).
    """

    name: str
    metric: str
    version: str
    few_shot: int
    examples: int | None
    path: Path | None = None
    harness: str = ""
    chance: float | None = None

    def options(self, limit: int | None, few_shot: int | None) -> dict[str, int | str]:
        """What makes one score of this task comparable with another, for the key of a configuration.

        Tasks that take no examples stay at none. Raises UserError where more examples are asked for than there are.
        """
        wanted = self.few_shot if few_shot is None or self.examples == 0 else few_shot
        if self.examples is not None and wanted > self.examples:
            raise UserError(f"fewshot {wanted} of task '{self.name}'", f"at most {self.examples}, the examples it has", "lower fewshot")
        return {"fewshot": wanted, "version": self.version} | ({} if limit is None else {"limit": limit})


def get(asked: str) -> TaskCard:
    """The task called `asked`: a name of data/catalog/tasks.csv, or the path of a JSONL file (eai/items.py documents its fields).

    Raises UserError with the nearest names for one that is not known, and for a file that cannot be used, with its line.
    """
    if asked.endswith(".jsonl") or "/" in asked:
        return _of_file(Path(asked).expanduser())
    from eai import catalog  # reads tables with pandas: too slow for a command line that runs no task

    try:
        task = catalog.task(asked)
    except UserError as error:
        near = str(error).partition("such as ")[2].partition(";")[0] or "mmlu"
        raise UserError(f"unknown task '{asked}'", f"{GENERATE}, {near}, or the path of a .jsonl file of your own") from None
    own = SETS / f"{task.slug}.yaml"
    if not own.exists():
        examples = 0 if task.few_shot == 0 else None
        return TaskCard(task.slug, task.metric, task.version, task.few_shot, examples, harness=task.lm_eval, chance=task.chance)
    stored = SETS / f"{task.slug}.jsonl"
    examples = len(items.read(stored).examples) if stored.exists() else task.few_shot
    return TaskCard(task.slug, task.metric, task.version, task.few_shot, examples, chance=task.chance)


def _of_file(path: Path) -> TaskCard:
    """The task of a user's file; its name is the file's, its version the digest of its content.

    Raises UserError for the name of a benchmark: scores of other items would stand under it.
    """
    found = items.read(path)
    if known := _benchmark(path.stem):
        raise UserError(f"{path} would be scored as {known}, which it is not", "a name of its own", f"rename it, such as my-{path.name}")
    chance = sum(1 / len(row["choices"]) for row in found.items) / len(found.items) if found.kind == "choice" else None
    return TaskCard(path.stem, KIND_METRICS[found.kind], f"sha256:{found.digest}", 0, len(found.examples), path, chance=chance)


def _benchmark(name: str) -> str:
    """The benchmark or set of ours that goes by this name, empty if none does."""
    from eai import catalog

    try:
        return catalog.task(name).name
    except UserError:
        return ""


def cards(asked: list[str]) -> dict[str, TaskCard]:
    """The tasks by name, `generate` left out. Raises UserError where two of them would have one name."""
    found: dict[str, TaskCard] = {}
    for each in asked:
        if each != GENERATE:
            card = get(each)
            if card.name in found or card.name == GENERATE:
                raise UserError(f"two tasks are called '{card.name}'", "one name a task", "rename the file")
            found[card.name] = card
    return found
