"""The command line, and the composition root: it alone may import every folder, lazily."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Classifier heads, compared fairly: one backbone, one subset, one protocol.",
)

Suite = Annotated[str, typer.Option("--suite", help="Name of a suite, or path of a YAML file.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field of the suite: recipe.epochs=30; repeatable."),
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--with", help="A Python file with a head of yours; repeatable."),
]
Words = Annotated[
    list[str] | None,
    typer.Option(
        "--words", help="File of word vectors, or DATA=FILE: .npy, word2vec, GloVe; repeatable."
    ),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the records.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Default: $BENCHMARK_DATA, else ./data.")
]
Tracking = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow's address. Default: mlflow.db beside the records."),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def _jobs(given: str) -> int:
    """Cells side by side, as typed; -1 for auto, which is `desk.AUTO`."""
    if str(given) == "auto":
        return -1
    if not str(given).isdecimal():
        raise typer.BadParameter(f"{given!r} is neither auto nor a number of cells from 0 on.")
    return int(given)


Jobs = Annotated[
    int,
    typer.Option(
        parser=_jobs,
        metavar="N|auto",
        help="Cells side by side; 0: as many as fit the machine; auto: as a short pilot says.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Of one cell; changes its last bits.")]
Offline = Annotated[bool, typer.Option("--offline", help="Leave MLflow alone.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing data.")]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Decline cells whose data is not here.")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Train again what has changed since.")]
Engine = Annotated[
    str, typer.Option(help="local: this machine; ray, slurm: a cluster; see docs/clusters.md.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster, host:port or auto. Default: $RAY_ADDRESS, else its own."),
]

Execution = Annotated[
    str,
    typer.Option(help="auto: compiled where it pays; eager, compiled. No part of what a cell is."),
]


def _data_root(given: Path | None) -> Path:
    return given or Path(os.environ.get("BENCHMARK_DATA") or "data")


def _console() -> Console:
    wide = None if sys.stdout.isatty() else 200  # a file is not folded at 80 columns
    return Console(width=wide, emoji=False)  # '1:100:' is no emoji


def _options(suite: str, flags: dict[str, Any]) -> Any:
    """The `desk.Options` that `run` and `study` work with, from their flags by name."""
    from benchmark.commands.desk import Options

    plain = ("runs", "tracking_uri", "device", "jobs", "threads", "offline", "download")
    return Options(
        suite=suite,
        data_root=_data_root(flags["data_root"]),
        **{name: flags[name] or [] for name in ("changes", "files", "words")},
        **{name: flags[name] for name in (*plain, "skip_missing", "refresh")},
        **{name: flags[name] for name in ("engine", "address", "execution")},
    )


@app.command()
def run(
    suite: Suite,
    changes: Changes = None,
    files: Files = None,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
    tracking_uri: Tracking = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    threads: Threads = 1,
    offline: Offline = False,
    download: Download = False,
    skip_missing: SkipMissing = False,
    refresh: Refresh = False,
    words: Words = None,
    engine: Engine = "local",
    address: Address = None,
    execution: Execution = "auto",
) -> None:
    """Train what is missing of a suite, and nothing else.

    Gives 0 where every cell has its result or is declined with a reason, 1 where one failed, 2 for
    what you can mend, 130, 138 and 143 where Ctrl-C, SIGUSR1 or SIGTERM stopped it; then the same
    command goes on.
    """
    from benchmark.commands import run as command

    raise typer.Exit(command.run(_options(suite, locals()), _console()))


@app.command()
def plan(
    suite: Suite,
    changes: Changes = None,
    files: Files = None,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    words: Words = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    threads: Threads = 1,
    pilot: Annotated[
        bool,
        typer.Option("--pilot", help="Train some steps first, half a minute, to know the time."),
    ] = False,
) -> None:
    """List the cells of a suite, their state and the predicted time; keep nothing."""
    from benchmark.commands import plan as command

    expected = command.Options(
        suite=suite,
        changes=changes or [],
        files=files or [],
        runs=runs,
        data_root=_data_root(data_root),
        words=words or [],
        device=device,
        jobs=jobs,
        threads=threads,
        pilot=pilot,
    )
    command.plan(expected, _console(), as_json=as_json)


@app.command()
def report(
    suite: Annotated[str | None, typer.Option(help="Only this suite's cells.")] = None,
    paper: Annotated[
        str | None,
        typer.Option(help="This paper's tables and figures, beside its printed numbers."),
    ] = None,
    seeds: Annotated[
        bool,
        typer.Option("--seeds", help="How many seeds it takes to tell heads apart, and why."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the findings.")] = Path("findings"),
    files: Files = None,
    runs: Runs = Path("runs"),
    tracking_uri: Tracking = None,
    trace: Annotated[
        str | None,
        typer.Option(help="EXHIBIT/ROW.COLUMN: the cells behind a number of --out; write nothing."),
    ] = None,
) -> None:
    """Write tables (LaTeX, CSV), figures and a page from the ledger."""
    from benchmark.commands import report as command

    if trace is not None:
        command.trace(trace, out, runs, _console())
        return
    command.report(suite, out, runs, tracking_uri, files or [], _console(), paper, seeds)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of a study, or path of a YAML file.")],
    changes: Changes = None,
    files: Files = None,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
    tracking_uri: Tracking = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    threads: Threads = 1,
    offline: Offline = False,
    download: Download = False,
    skip_missing: SkipMissing = False,
    refresh: Refresh = False,
    words: Words = None,
    storage: Annotated[
        str | None,
        typer.Option(help="postgresql://USER@HOST/DATABASE, in place of a file beside --runs."),
    ] = None,
    engine: Engine = "local",
    address: Address = None,
    execution: Execution = "auto",
) -> None:
    """Try values: all of a grid, or those that a search draws and its validation images judge."""
    from benchmark.commands import study as command

    raise typer.Exit(command.study(replace(_options(name, locals()), storage=storage), _console()))


@app.command()
def replay(
    key: Annotated[str, typer.Argument(help="Of a finished cell, or how it begins.")],
    foundations: Annotated[
        bool, typer.Option("--foundations", help="Train what it stands on again too.")
    ] = False,
    files: Files = None,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=0, help="0: as many as the record names.")] = 0,
    words: Words = None,
) -> None:
    """Train a finished cell again beside its record, and compare to the last bit."""
    from benchmark.commands import replay as command
    from benchmark.commands.desk import Options

    options = Options(
        suite="replay",
        changes=[],
        files=files or [],
        runs=runs,
        data_root=_data_root(data_root),
        tracking_uri=None,
        device=device,
        jobs=1,
        threads=threads,
        offline=True,
        download=False,
        skip_missing=False,
        refresh=False,
        words=words or [],
    )
    raise typer.Exit(command.replay(key, options, _console(), foundations=foundations))


@app.command()
def bundle(
    out: Annotated[Path, typer.Argument(help="The file to write: a plain tar.")],
    suite: Annotated[str | None, typer.Option(help="Only this suite's cells.")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write finished cells to one file, to be merged on another machine."""
    from benchmark.commands import bundle as command

    command.bundle(suite, out, runs, _console())


@app.command()
def merge(
    bundles: Annotated[list[Path], typer.Argument(help="Files that `bundle` wrote.")],
    runs: Runs = Path("runs"),
    tracking_uri: Tracking = None,
    offline: Offline = False,
) -> None:
    """Take in cells from another machine; what has another protocol or data is refused."""
    from benchmark.commands import bundle as command

    raise typer.Exit(command.merge(bundles, runs, tracking_uri, _console(), offline=offline))


@app.command(name="list")
def listing(
    what: Annotated[
        str,
        typer.Argument(
            help="heads, datasets, backbones, recipes, suites, studies, exhibits or claims."
        ),
    ],
) -> None:
    """Print a table of contents, with papers."""
    from benchmark.commands import listing as command

    command.listing(what, _console())


@app.command()
def check(
    head: Annotated[str, typer.Argument(help="A head, or the path of a Python file with one.")],
) -> None:
    """Hold a head against the contract."""
    from benchmark.commands import check as command

    raise typer.Exit(command.check(head, _console()))


@app.command()
def prototypes(
    classes: Annotated[int, typer.Option(help="Number of points.")],
    dim: Annotated[int, typer.Option(help="Length of each.")],
    objective: Annotated[
        str, typer.Option(help="energy, separation, or a procedure as a paper runs it.")
    ] = "energy",
    out: Annotated[Path | None, typer.Option(help="A .npy file: one row per class.")] = None,
) -> None:
    """Spread points on the sphere, describe them, and save them."""
    from benchmark.commands import prototypes as command

    command.prototypes(classes, dim, objective, out, _console())


@app.command()
def doctor(
    runs: Runs = Path("runs"),
    tracking_uri: Tracking = None,
    fix: Annotated[bool, typer.Option("--fix", help="Clear what is damaged.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make MLflow anew.")] = False,
) -> None:
    """Look over records and ledger, deliver what is waiting."""
    from benchmark.commands import doctor as command

    raise typer.Exit(command.doctor(runs, tracking_uri, _console(), fix=fix, rebuild=rebuild))


@app.command()
def chaos(
    suite: Suite,
    kills: Annotated[int, typer.Option(min=0, help="How many SIGKILLs.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the kills.")] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder of both runs; the undisturbed one is not trained there again."),
    ] = None,
    changes: Changes = None,
    files: Files = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    threads: Threads = 1,
    skip_missing: SkipMissing = False,
    words: Words = None,
) -> None:
    """Train a suite twice, once undisturbed and once killed again and again, and compare."""
    from benchmark.commands import chaos as command
    from benchmark.commands.desk import Options

    options = Options(
        suite=suite,
        changes=changes or [],
        files=files or [],
        runs=Path("runs"),
        data_root=_data_root(data_root),
        tracking_uri=None,
        device=device,
        jobs=jobs,
        threads=threads,
        offline=False,
        download=False,
        skip_missing=skip_missing,
        refresh=False,
        words=words or [],
    )
    raise typer.Exit(command.chaos(options, _console(), kills=kills, seed=seed, keep=keep))


@app.command()
def speed(
    backbones: Annotated[
        list[str] | None,
        typer.Option("--backbone", help="Only this one, as in a suite; repeatable."),
    ] = None,
    heads: Annotated[
        list[str] | None, typer.Option("--head", help="Only this one; repeatable.")
    ] = None,
    changes: Changes = None,
    threads: Annotated[int, typer.Option(min=1, help="Of both loops.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Of either loop, in turn.")] = 3,
    steps: Annotated[
        int, typer.Option(min=0, help="Of a round; 0: some seconds of the reference.")
    ] = 0,
    device: Annotated[str, typer.Option(help="Of both loops: cpu, cuda or cuda:0.")] = "cpu",
    execution: Execution = "auto",
    data_root: DataRoot = None,
    csv: Annotated[Path | None, typer.Option(help="Write every round to this file.")] = None,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Only ours: what each head costs of a step.")
    ] = False,
    matching: Annotated[
        list[int] | None,
        typer.Option(
            min=2,
            help="Instead: assign so many labels to points, scipy's way and ours; repeatable.",
        ),
    ] = None,
) -> None:
    """Compare our training loop with the one that released code uses, in turn, and say where
    the time goes.
    """
    if matching:
        from benchmark.commands import matching as assignment

        assignment.matching(matching, rounds, _console())
        return
    from benchmark.commands import speed as command

    options = command.Options(
        backbones=backbones or [],
        heads=heads or [],
        changes=changes or [],
        threads=threads,
        rounds=rounds,
        steps=steps,
        device=device,
        execution=execution,
        root=_data_root(data_root),
        named=data_root is not None,
        csv=csv,
        overhead=overhead,
    )
    raise typer.Exit(command.speed(options, _console()))


def main() -> None:
    """Run a command; what a user can mend is one sentence on standard error and exit code 2."""
    from benchmark.engines.torchrun import rank

    place = rank()
    try:
        if place and sys.argv[1:2] != ["run"]:
            raise ValueError(
                f"torchrun has started {place.size} processes of a command that needs one. Only "
                "`run` takes several: leave torchrun out."
            )
        app()
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if os.environ.get("BENCHMARK_TRACEBACK"):
            raise
        if place is None or place.rank == 0:  # the others found the same
            print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if type(error).__name__ != "Unreachable" or os.environ.get("BENCHMARK_TRACEBACK"):
            raise
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
