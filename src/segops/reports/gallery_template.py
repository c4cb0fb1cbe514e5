"""The template of gallery.html; `gallery.py` fills it."""

from __future__ import annotations

GALLERY_PAGE = """
{% extends "page.html" %}
{% macro key(colour) %}<span class="key" style="background: {{ colour }}"></span>{% endmacro %}
{% macro legend() %}{% if not evaluation.shown_classes %}Errors: {% for name, colour in keys.items() %}
{{ key(colour) }}{{ name }}{% endfor %}.{% else %}Classes: {% for name, colour in colours.items() %}
{{ key(colour) }}{{ name }}{% endfor %}. Errors: right pixels are dimmed, wrong ones have the colour of the predicted
class, {{ key("#ffffff") }}white where it is {{ evaluation.classes[0] }}.{% endif %}{% endmacro %}
{% block title %}{{ evaluation.candidate }} on {{ model.dataset }}{% endblock %}
{% block body %}
<h1>{{ evaluation.candidate }}</h1>
<p class="soft">How good the candidate is on {{ model.dataset }}, and how sure that is. Not for clinical use.</p>

<div class="cards">
{% for name, value in (("Dice, validation", evaluation.val.dice), ("Dice, test", evaluation.test.dice),
                       ("IoU, test", evaluation.test.iou)) %}
  <div class="card"><div class="soft">{{ name }}</div><div class="value">{{ value.mean|score }}</div>
    <small class="soft">{{ value.range_words() }}</small></div>
{% endfor %}
{% if model.rule == "argmax" %}
  <div class="card"><div class="soft">Decision</div><div class="value">argmax</div>
    <small class="soft">the likeliest of {{ evaluation.classes|length }} classes</small></div>
{% elif model.rule == "otsu" %}
  <div class="card"><div class="soft">Threshold</div><div class="value">Otsu</div>
    <small class="soft">each image's own</small></div>
{% else %}
  <div class="card"><div class="soft">Threshold</div><div class="value">{{ "%.2f"|format(evaluation.threshold) }}</div>
    <small class="soft">{{ rules[model.rule] }}</small></div>
{% endif %}
{% if evaluation.test.instances %}
  {% set ap = evaluation.test.instances.ap %}
  <div class="card"><div class="soft">AP of objects, test (truth: {{ evaluation.test.instances.truth }})</div>
    <div class="value">{{ ap.mean|score }}</div>
    <small class="soft">{{ ap.range_words() }}</small></div>
{% endif %}
</div>
<p class="soft"><small>Means over images at native size, with {{ "%g"|format(100 * evaluation.confidence) }} % intervals
  over groups; a failure that only one group in ten has may lie outside
  them. Nothing was chosen on the test set.{% if evaluation.shown_classes %} Dice, IoU, precision
  and recall of an image are means over those of {{ evaluation.shown_classes|join(", ") }} that truth or prediction has.
  Accuracy is the share of pixels with the right class.{% endif %} Images in which neither has
  {{ "such a class" if evaluation.shown_classes else "foreground" }} are left out, so that a model that finds nothing
  scores 0.</small></p>

<h2>Scores</h2>
{% set of_foreground = ", foreground against " ~ evaluation.classes[0] if evaluation.shown_classes else "" %}
<div class="scroll"><table>
<tr><th></th><th>Validation</th><th>Test</th></tr>
<tr><td>Images, groups</td>{% for part in (evaluation.val, evaluation.test) %}
<td>{{ part.images }} in {{ part.groups }}</td>{% endfor %}</tr>
<tr><td>Images with foreground</td>{% for part in (evaluation.val, evaluation.test) %}
<td>{{ part.images_with_foreground }}</td>{% endfor %}</tr>
{% for name, key in (("Dice", "dice"), ("IoU", "iou"), ("Precision", "precision"), ("Recall", "recall"),
                     ("Accuracy", "accuracy")) %}
<tr><td>{{ name }}</td><td>{{ evaluation.val[key]|interval }}</td><td>{{ evaluation.test[key]|interval }}</td></tr>
{% endfor %}
{% for name, key in (("Dice over all pixels (pooled)", "pooled_dice"),
                     ("False positives: share of images without foreground in which some was predicted",
                      "false_positive_share"),
                     ("Area under precision-recall" ~ of_foreground, "pr_auc"),
                     ("Area under ROC" ~ of_foreground, "roc_auc")) %}
<tr><td>{{ name }}</td><td>{{ evaluation.val[key]|score }}</td><td>{{ evaluation.test[key]|score }}</td></tr>
{% endfor %}
{% for name, key in (("HD95, pixels", "hd95_px"), ("Maximum Hausdorff, pixels", "hd_px"),
                     ("ASSD, pixels", "assd_px")) %}
<tr><td>{{ name }}</td>{% for part in (evaluation.val, evaluation.test) %}
<td>{{ part[key]|pixels }}</td>{% endfor %}</tr>
{% endfor %}
<tr><td>Expected calibration error</td>{% for part in (evaluation.val, evaluation.test) %}
<td>{{ part.ece|score }}</td>{% endfor %}</tr>
</table></div>
{% if used %}<p class="soft">Inference: {{ used|join("; ") }}.</p>{% endif %}

{% if evaluation.test.instances %}
<h2>Objects</h2>
<p class="soft">Truth: {{ evaluation.test.instances.truth }}. Predicted objects are matched one to one with the
  4-connected components of the truth's masks, where objects that touch are one: a prediction that parts them rightly
  loses. Average precision is TP / (TP + FP + FN); means over the images in which either side has an object.</p>
<div class="scroll"><table>
<tr><th>Subset</th><th>Mean of all</th>{% for iou in evaluation.test.instances.by_iou %}
<th class="number">IoU {{ iou }}</th>{% endfor %}<th class="number">Objects</th><th class="number">Predicted</th></tr>
{% for subset, part in subsets.items() %}
<tr><td>{{ subset }}</td><td>{{ part.instances.ap|interval }}</td>{% for ap in part.instances.by_iou.values() %}
<td class="number">{{ ap|score }}</td>{% endfor %}<td class="number">{{ "{:,}".format(part.instances.objects) }}</td>
<td class="number">{{ "{:,}".format(part.instances.predicted) }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Calibration</h2>
{% set hit = "the likeliest class is right" if evaluation.shown_classes else "a pixel is foreground" %}
<p class="soft">How often {{ hit }} among pixels of a confidence; on the diagonal confidence is frequency. Larger dots
  stand for more pixels (on a log scale). The expected calibration error is the mean distance from the diagonal over
  pixels.</p>
<div class="reliability">{% for subset, curve in reliability.items() %}
<figure>{{ curve }}<figcaption>{{ subset }}, error {{ subsets[subset].ece|score }}</figcaption></figure>{% endfor %}
</div>

{% if evaluation.out_of_fold %}{% set folds = evaluation.out_of_fold %}
<h2>Cross-validation</h2>
<p class="soft">{{ model.folds|length }} models, each trained without one fold; every image outside test judged by
  the one that hasn't seen its fold.{% if model.ensemble %} The candidate is their mean: test was predicted by all
  of them, validation out of fold.{% endif %}</p>
<div class="scroll"><table>
<tr><th>Images, groups</th><th>Dice, out of fold</th><th>IoU, out of fold</th></tr>
<tr><td>{{ folds.images }} in {{ folds.groups }}</td><td>{{ folds.dice|interval }}</td><td>{{ folds.iou|interval }}</td>
</tr>
</table></div>
{% endif %}

{% if evaluation.shown_classes %}
<h2>By class</h2>
<div class="scroll"><table>
<tr><th>Class</th><th>Subset</th><th>Dice</th><th>IoU</th><th class="number">Dice over all pixels</th>
<th class="number">Pixels</th><th class="number">Images with it</th>
<th class="number">Predicted where it is not</th></tr>
{% for name in evaluation.shown_classes %}{% for subset, part in subsets.items() %}{% set one = part.by_class[name] %}
<tr><td>{% if loop.first %}<span class="swatch" style="background: {{ colours[name] }}"></span>{{ name }}{% endif %}
</td>
<td>{{ subset }}</td><td>{{ one.dice|interval }}</td><td>{{ one.iou|interval }}</td>
<td class="number">{{ one.pooled_dice|score }}</td><td class="number">{{ "{:,}".format(one.pixels) }}</td>
<td class="number">{{ one.images }} of {{ part.images }}</td>
<td class="number">{{ one.false_positive_share|score }}</td></tr>
{% endfor %}{% endfor %}
</table></div>
{% endif %}

<h2>Confusion</h2>
<p class="soft">Pixels of all images: a row a class of the truth, a column a predicted class. Percentages are of the
  row.</p>
<div class="confusions">
{% for subset, part in subsets.items() %}
<div class="scroll"><table class="confusion">
<tr><th>{{ subset }}</th>{% for name in evaluation.classes %}<th class="number">{{ name }}</th>{% endfor %}</tr>
{% for counted in part.confusion %}{% set row = loop.index0 %}{% set total = [counted|sum, 1]|max %}
<tr><th>{{ evaluation.classes[row] }}</th>{% for pixels in counted %}
<td class="number {{ "right" if loop.index0 == row else "wrong" }}"
  style="--share: {{ "%.4f"|format(pixels / total) }}">{{ "%.1f"|format(100 * pixels / total) }} %<br>
<small>{{ "{:,}".format(pixels) }}</small></td>
{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
</div>

<h2>Dice by modality</h2>
<div class="scroll"><table>
<tr><th>Modality</th><th>Validation</th><th>Test</th></tr>
{% for name in (evaluation.val.by_modality.keys()|list + evaluation.test.by_modality.keys()|list)|unique|sort %}
<tr><td>{{ name }}</td>{% for part in (evaluation.val, evaluation.test) %}
<td>{{ part.by_modality.get(name)|interval }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>

{% if evaluation.published %}
<h2>The published evaluation</h2>
<p class="soft">Test images at 256x256, truth resized bilinearly and cut at 0.5, prediction cut at 0.5, means
  over images, undefined scores count 0.</p>
<div class="scroll"><table>
<tr><th>Accuracy</th><th>F1</th><th>Jaccard</th><th>Recall</th><th>Precision</th></tr>
<tr>{% for key in ("accuracy", "f1", "jaccard", "recall", "precision") %}
<td>{{ "%.5f"|format(evaluation.published[key]) }}</td>{% endfor %}</tr>
</table></div>
{% endif %}

{% for heading, examples in sections.items() if examples %}
<h2>{{ heading }} test images by Dice</h2>
{% if loop.first %}
<p class="soft">{{ legend() }} Confidence, of
{{ "the likeliest class" if evaluation.shown_classes else "foreground" }}: 0
<span class="heat" style="background: linear-gradient(to right, {{ heat }})"></span> 1. GradCAM, in the same colours,
shows what in the network's lowest feature map speaks for foreground. Pictures are scaled to one height; 16-bit and dark
images are stretched for show.</p>
{% endif %}
{% for example in examples %}
<figure class="example">
<div class="panels">{% for name, uri in example.panels.items() %}
<figure><img src="{{ uri }}" alt="{{ name }} of {{ example.row.image_id }}"><figcaption>{{ name }}</figcaption></figure>
{% endfor %}</div>
<figcaption><strong>Dice {{ example.row.dice|score }}</strong> · {{ example.row.image_id }} ·
  {{ example.row.height }}x{{ example.row.width }} px · {{ example.row.modality }}</figcaption>
</figure>
{% endfor %}
{% endfor %}

<h2>What was measured</h2>
<dl>
<dt>Data</dt><dd>{{ model.dataset }} from {{ model.source }} ({{ model.licence }})</dd>
<dt>Source sha256</dt><dd><code>{{ model.source_sha256 }}</code></dd>
<dt>Test set</dt><dd><code>{{ evaluation.test_sha256 }}</code></dd>
<dt>Protocol</dt><dd>{{ evaluation.protocol }}{% if evaluation.protocol == "published" %}:
  images of one group may stand in training and in test{% else %}: no group on two sides{% endif %}</dd>
<dt>Classes</dt><dd>{{ prepared.classes|join(", ") }}</dd>
<dt>Weights</dt><dd><code>{{ evaluation.weights_sha256 }}</code>, {{ "{:,}".format(model.parameters) }} parameters,
  epoch {{ model.best_epoch }} of {{ model.epochs }}</dd>
</dl>
<style>
.example { margin: 14px 0 22px; } .swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px;
  margin: 0 7px -1px 0; border: 1px solid var(--line); }
.confusions { display: grid; gap: 12px 28px; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); }
.confusion td { padding: 6px 10px; border: 2px solid var(--page); } .confusion th { vertical-align: middle; }
.confusion .right { background: color-mix(in srgb, var(--accent) calc(var(--share) * 45%), var(--card)); }
.confusion .wrong { background: color-mix(in srgb, var(--warn) calc(var(--share) * 75%), var(--card)); }
.panels { display: grid; gap: 8px; grid-template-columns: repeat(6, minmax(0, 1fr)); } .panels img { width: 100%; }
.heat { display: inline-block; width: 72px; height: 10px; border-radius: 2px; }
.reliability { display: flex; flex-wrap: wrap; gap: 12px 40px; } .reliability svg { overflow: visible; }
@media (max-width: 720px) { .panels { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
</style>
{% endblock %}
"""
