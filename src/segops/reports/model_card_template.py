"""The template of model_card.md; `model_card.py` fills it."""

from __future__ import annotations

MODEL_CARD = """
# Model card: {{ model.candidate }} on {{ model.dataset }}

## Model details

| | |
|---|---|
| architecture | {{ params.model.architecture }}, {{ "{:,}".format(model.parameters) }} trainable parameters |
{% set input = params.input %}
| input | {{ channels }}, {{ input.resize }} to {{ input.size|join("x") }} pixels, normalize {{ input.normalize }} |
| output | probabilities of {{ outputs|join(", ") }}, at the image's own size |
| decision | {{ model.shown_rule }}{% if cleaning %}, then {{ cleaning|join(", ") }}{% endif %} |
{% if model.folds or model.members %}
| networks | {{ networks }} |
{% endif %}
| weights | {{ model.weights_sha256|code }}, of epoch {{ model.best_epoch }} of {{ model.epochs }} |
{% if model.pretrained_sha256 %}
| encoder began with | {{ model.pretrained_sha256|code }} |
{% endif %}
| key of params, data and code | {{ model.key|code }} |
| licence | the data's: {{ model.licence }} |
{% if card.contact %}
| contact | {{ card.contact }} |
{% endif %}

The recipe: what differs from the defaults, and what is compared most.

| param | value |{% if model.tuned %} chosen by |{% endif %}

|---|---|{% if model.tuned %}---|{% endif %}

{% for path, value in shown.items() %}
{% set searched = model.tuned and path in model.tuned.values %}
| {{ path|code }} | {{ value|code }} |{% if model.tuned %} {{ "search" if searched else "hand" }} |{% endif %}

{% endfor %}
{% if model.tuned %}

The search is trial {{ model.tuned.trial }} of the study {{ model.tuned.study|code }}, on validation.
{% endif %}

## Intended use

{{ intended_use }}

## Factors

Scores are shown by {{ factors|join(", ") }}. Images of one group (a patient, a slide, a field) stand together
{% if model.protocol == "grouped" %}
on one side of the split, and are the units of intervals.
{% else %}
in intervals, whose units are groups, not images. The protocol `published` doesn't keep them on one side of the split.
{% endif %}

## Metrics

Dice and IoU are means over images at native size in which truth or prediction has foreground, so that a model that
finds nothing scores 0; false positives are counted where the truth has none. Brackets hold
{{ "{:.0%}".format(evaluation.confidence) }} intervals over groups; a failure that only one group in ten has may lie
outside them. Weights, threshold and cleaning were chosen on
validation; nothing was chosen on the test set.

## Evaluation data

| | images | groups | |
|---|---|---|---|
| validation | {{ evaluation.val.images }} | {{ evaluation.val.groups }} | |
| test | {{ evaluation.test.images }} | {{ evaluation.test.groups }} | {{ model.test_sha256|code }} |

Protocol {{ model.protocol|code }}, split {{ model.assignment_sha256|code }}.

## Training data

| | |
|---|---|
| data set | {{ model.dataset }} |
| source | {{ source }}{% if model.source_revision %}, revision {{ model.source_revision|code }}{% endif %} |
| sha256 of the source | {{ model.source_sha256|code }} |
| sha256 of the manifest | {{ model.manifest_sha256|code }} |
| training images | {{ model.train_images }} in {{ model.train_groups }} groups: {{ modalities }} |
| height, pixels | median {{ model.train_height_px[0] }}, largest {{ model.train_height_px[1] }} |
| width, pixels | median {{ model.train_width_px[0] }}, largest {{ model.train_width_px[1] }} |
| sample types | {{ model.full_scale|join(", ") }} |

## Quantitative analyses

| | validation | test |
|---|---|---|
{% for name, key in scores %}
| {{ name }} | {{ evaluation.val[key]|interval }} | {{ evaluation.test[key]|interval }} |
{% endfor %}
{% for name, key in figures %}
| {{ name }} | {{ evaluation.val[key]|score }} | {{ evaluation.test[key]|score }} |
{% endfor %}
{% if evaluation.test.instances %}
{% set val, test = evaluation.val.instances, evaluation.test.instances %}
| average precision of objects (truth: {{ test.truth }}) | {{ val.ap|interval }} | {{ test.ap|interval }} |
{% endif %}
{% if evaluation.out_of_fold %}
{% set folds = evaluation.out_of_fold %}

Out of fold, over {{ folds.images }} images outside test: Dice {{ folds.dice|interval }}.
{% endif %}
{% if evaluation.shown_classes %}

By class, on test:

| class | Dice | IoU | images with it | predicted where it is not |
|---|---|---|---|---|
{% for name in evaluation.shown_classes %}{% set one = evaluation.test.by_class[name] %}
| {{ name }} | {{ one.dice|interval }} | {{ one.iou|interval }} | {{ one.images }} |
{{- " " }}{{ one.false_positive_share|score }} |
{% endfor %}
{% endif %}
{% if parts %}

By subgroup, on test:

| | images | groups | Dice | lowest |
|---|---|---|---|---|
{% for one in parts %}
| {{ one.kind }} {{ one.name }} | {{ one.images }} | {{ one.groups }} | {{ one.dice|score }} | {{ one.lowest|score }} |
{% endfor %}
{% endif %}

## Ethical considerations

The model learnt from images under the licence {{ model.licence }}. Whether they show people, and whether these agreed,
is not known to the software that made this card. It is no medical device.

## Caveats and recommendations

{{ limits }}
{% if caveats %}

What the figures say themselves:

{% for one in caveats %}
- {{ one }}
{% endfor %}
{% endif %}

## How to load

`@champion` is the version in use; `/NUMBER` in its place is one by its number. The program takes `image_BCHW`, float32
of any height and width in [0, 1]: samples divided by {{ scales }}.
It returns probabilities. Resizing, normalization and activation are inside; the rule and the cleaning above are what
`segops predict` adds.

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{{ name }}@champion", model_config={"device": "cpu"})
probability_BKHW = model.predict(image_BCHW)
```

```sh
segops predict --model champion my-images/ my-masks/
```

```python
import mlflow
import torch

folder = mlflow.artifacts.download_artifacts("models:/{{ name }}@champion")
program = torch.export.load(f"{folder}/data/model.pt2").module()
probability_BKHW = program(torch.from_numpy(image_BCHW))
```
"""
