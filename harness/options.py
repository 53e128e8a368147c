"""The arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[
    str, typer.Argument(help="The study: a name that `list` shows, or a Python file of your own.", show_default=False)
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="What to spend: smoke, laptop, long, paper and others that `list` shows; paper@DATASET on other data. "
        "Default: laptop, else the first.",
        show_default=False,
    ),
]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Replicates per arm; the profile's own number if left out.")]
StorePath = Annotated[Path, typer.Option("--store", help="Where trials and reports are kept.")]
StoreArgument = Annotated[Path, typer.Argument(help="The store.", show_default=False)]
Workers = Annotated[int | None, typer.Option("--workers", help="Trials at once; one per GPU, else one per core.")]
Address = Annotated[str, typer.Option("--address", help="A Ray cluster that is up, host:port; else this machine.")]
GpusPerTrial = Annotated[float | None, typer.Option("--gpus-per-trial", help="0.25 packs four trials on a GPU.")]
Snapshots = Annotated[
    str | None, typer.Option("--snapshots", help="Where unfinished trials keep their state: a shared folder, or a URL.")
]
ExtractorName = Annotated[
    str,
    typer.Option(
        "--protocol",
        "--extractor",
        help="classifier, imagenet-lite0, inception-v3, dinov2, dinov2-vit-l, clip, or your own. Default: the data's.",
        show_default=False,
    ),
]
ExtractorWeights = Annotated[
    Path | None, typer.Option("--extractor-weights", help="A local file, where a pretrained extractor is asked for.")
]
ReferenceMoments = Annotated[
    Path | None,
    typer.Option("--reference-moments", help="FID against mu and sigma of an .npz file; for --protocol inception-v3."),
]
Full = Annotated[bool, typer.Option("--full", metavar="", help="Print the page's tables and sentences, too.")]
Open = Annotated[bool, typer.Option("--open", metavar="", help="Open the page in a browser.")]
UntilAnswered = Annotated[
    bool,
    typer.Option("--until-answered", metavar="", help="Add seeds to what is unresolved, until all is settled."),
]
Budget = Annotated[
    str | None, typer.Option("--budget", help="Time for --until-answered: 90s, 30m, 2h; 1h if left out.")
]
