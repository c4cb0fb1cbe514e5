"""dataset_card.md: what a data set is made of, from its fingerprint, its validation report and its split.

Sections are those of Gebru et al. 2021, "Datasheets for Datasets". Nothing is typed by hand but what ingest's params
say (name, licence, source); what the files don't know is said to be unknown.
"""

from __future__ import annotations

from segops.contracts.base import SUBSETS
from segops.contracts.dataset import Dataset
from segops.contracts.split import Split
from segops.contracts.validation import ValidationReport
from segops.tracking.markdown import fill, link

_MOST = 6  # lines of a list

_TEMPLATE = """
# Data set: {{ data.name }}

## Motivation

Images with masks, to train and judge segmentation of {{ data.classes[1:]|join(", ") }}. For what purpose and by whom
they were first collected, their source says: {{ source }}.

## Composition

| | |
|---|---|
| images | {{ "{:,}".format(data.images) }}, each with a mask |
| groups (images that belong together, by {{ data.group_by }}) | {{ "{:,}".format(data.groups) }} |
| modalities | {{ modalities }} |
| height x width, pixels | {{ sizes }} |
| channels | {{ channels }}{% if data.stack %}, one file each: {{ data.stack|join(", ") }}{% endif %} |
| sample types | {{ dtypes }} |
| manifest | {{ data.manifest_sha256|code }} |

| class | share of pixels | colour in pictures |
|---|---|---|
{% for name in data.classes %}
| {{ name }} | {{ "{:.2%}".format(data.class_share[name]) }} | {{ data.class_colours[loop.index0]|code }} |
{% endfor %}

Mean intensity of an image, by percentile{% if own_units %} (full scale is 1; int16 and float32 have their own
units){% else %} (full scale is 1){% endif %}:

|{% for name in data.intensity_percentiles %} {{ name }} |{% endfor %}

|{% for name in data.intensity_percentiles %}---|{% endfor %}

|{% for value in data.intensity_percentiles.values() %} {{ value|score }} |{% endfor %}


Who or what the images show, and whether people can be recognized by them, is not known here.

## Collection process

Not recorded. The source is {{ source }}{% if data.source_revision %}, revision {{ data.source_revision|code }}{%
endif %}, sha256 {{ data.source_sha256|code }}.

## Preprocessing, cleaning and labelling

Masks came with the images ({{ data.layout }} layout) and were mapped to the classes above; samples are unchanged
otherwise.
{% if data.changes %}

| what was changed | files | pixels |
|---|---|---|
{% for one in data.changes[:most] %}
| {{ one.change }} | {{ one.files }} | {{ "{:,}".format(one.pixels) }} |
{% endfor %}
{% if data.changes|length > most %}
| {{ data.changes|length - most }} more, in dataset.json | | |
{% endif %}
{% endif %}
{% if data.growth %}
{% set growth = data.growth %}

Grown from the version with the manifest {{ growth.base_manifest_sha256|code }}: {{ growth.groups_kept }} groups kept,
{{ growth.groups_changed }} changed, {{ growth.groups_new }} new, {{ growth.groups_removed }} removed.
{% endif %}

{{ checked.expectations|length }} expectations were checked{% if not failed %}; all hold.
{% else %}; these don't hold:

{% for one in failed[:most] %}
- {{ one.name }} ({{ one.severity }}): {{ one.detail }}{% if one.failing_ids %} {{ one.failing_ids|length }} images.{%
endif %}

{% endfor %}
{% if failed|length > most %}
- {{ failed|length - most }} more, in the validation report
{% endif %}
{% endif %}

## Uses

Split for training by the protocol {{ split.protocol|code }}{% if split.fold is not none %}, fold {{ split.fold }} of
{{ split.folds }} as validation{% endif %}, seed {{ split.seed }}:

| | images | groups | mean foreground | modalities | sha256 |
|---|---|---|---|---|---|
{% for name in subsets %}
{% set one = split.subsets[name] %}
| {{ name }} | {{ one.images }} | {{ one.groups }} | {{ "{:.2%}".format(one.mean_foreground) }} | {{
counts(one.modalities) }} | {{ one.sha256|code }} |
{% endfor %}

{% if split.groups_on_two_sides %}
{{ split.groups_on_two_sides }} groups stand on two sides: {{ split.images_sharing_a_group_with_train["test"] }} of
{{ split.subsets["test"].images }} test images share one with a training image, so scores on them are too high.
{% else %}
No group stands on two sides.
{% endif %}
{% if split.few_groups %}

Few groups: {{ split.few_groups }}.
{% endif %}

What a model made of these images is for, and where its limits are, stands in the model's card.

## Distribution

Licence: {{ data.licence }}. {{ data.shards|length }} shards, {{ "{:.1f}".format(mib) }} MiB.

## Maintenance

A version is named by the manifest's hash.{% if split.protocol == "grouped" %} New images leave every old one on its
side of the split, as long as the seed stays.{% endif %}

"""


def dataset_card(data: Dataset, checked: ValidationReport, split: Split) -> str:
    """The card as markdown; the same contracts give the same card."""
    return fill(
        _TEMPLATE,
        data=data,
        checked=checked,
        split=split,
        subsets=SUBSETS,
        most=_MOST,
        source=link(data.source, data.source),
        failed=[one for one in checked.expectations if not one.success],
        modalities=counts(data.modalities),
        sizes=counts(data.sizes),
        channels=counts(data.channels),
        dtypes=counts(data.dtypes),
        own_units=any(dtype in ("int16", "float32") for dtype in data.dtypes),
        mib=sum(one.size_bytes for one in data.shards) / 2**20,
        counts=counts,
    )


def counts(images: dict[str, int]) -> str:
    """`fluorescence (464), histology (92)`: the most frequent first, and how many others."""
    order = sorted(images, key=lambda name: (-images[name], name))
    shown = ", ".join(f"{name} ({images[name]})" for name in order[:_MOST])
    rest = sum(images[name] for name in order[_MOST:])
    return f"{shown}, {len(order) - _MOST} others ({rest})" if rest else shown
