"""The template of the comparison page; `stages/comparison_page.py` fills it."""

from __future__ import annotations

COMPARISON_PAGE = """{% extends "page.html" %}
{% macro key(colour) %}<span class="key" style="background: {{ colour }}"></span>{% endmacro %}
{% macro subset_name(subset) %}{{ "validation" if subset == "val" else "test" }}{% endmacro %}
{% macro difference_table(differences) %}
<div class="scroll"><table>
<tr><th>pair</th><th>subset</th><th>difference of Dice</th><th class="number">images, groups</th>
<th class="number">Wilcoxon p</th><th class="number">adjusted p</th><th class="number">effect</th><th>verdict</th></tr>
{% for one in differences %}
<tr><td>{{ one.a }} &minus; {{ one.b }}</td><td>{{ subset_name(one.subset) }}</td>
<td>{{ signed_interval(one.difference) }}</td><td class="number">{{ one.images }}, {{ one.groups }}</td>
<td class="number">{{ p(one.p) }}</td><td class="number">{{ p(one.adjusted_p) }}</td>
<td class="number">{{ one.effect|signed(2) }}</td>
<td class="{{ ("good" if one.difference.side > 0 else "bad") if one.real else "warn" }}">{{ verdict(one) }}</td></tr>
{% endfor %}
</table></div>
{% endmacro %}
{% macro sheet_rows(rows, a, b) %}
{% for row in rows %}
<figure class="row">
<div class="shots">{% for shot in row.shots %}
<figure><div class="shot {{ shot.image }}" style="aspect-ratio: {{ shot.ratio }}" role="img"
 aria-label="{{ shot.name }}, {{ row.about.image_id }}">{% if shot.over %}<i class="{{ shot.over }}"></i>{% endif %}
</div><figcaption>{{ shot.name }}</figcaption></figure>{% endfor %}
</div>
<figcaption><strong>{{ row.about.change|signed(3) }}</strong><br>
{{ a }} {{ row.about.dice_a|score }}<br>{{ b }} {{ row.about.dice_b|score }}<br>
<code>{{ row.about.image_id }}</code><br>group {{ row.about.group_id }}<br>
{{ row.about.modality }}, {{ row.about.height }}x{{ row.about.width }} px</figcaption>
</figure>
{% endfor %}
{% endmacro %}
{% block title %}Comparison of {{ comparison.standings|length }} candidates{% endblock %}
{% block body %}
<style>{{ series_style }}
.drawing { max-width: 800px; } .square .drawing { max-width: 440px; } .drawings .drawing { min-width: 540px; }
.scroll table { min-width: 760px; }
.cards { grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); } .card .value { overflow-wrap: anywhere; }
td.mark { border-left: 3px solid var(--bad); padding-left: 8px; } tr.kind th { padding-top: 16px; color: var(--ink); }
details { margin: 14px 0; border-top: 1px solid var(--line); } details > summary { cursor: pointer; padding: 10px 0;
  font-weight: 600; } details details { border-top: 0; }
.row { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 1.6fr); gap: 6px 18px; margin: 0 0 16px;
  break-inside: avoid; }
.shots { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 8px; align-items: start; }
.shot { position: relative; width: 100%; border-radius: 3px; background-size: 100% 100%; overflow: hidden;
  print-color-adjust: exact; } .shot i { position: absolute; inset: 0; background-size: 100% 100%;
  image-rendering: pixelated; print-color-adjust: exact; } .shot:hover i { visibility: hidden; }
@media (max-width: 720px) { .row { grid-template-columns: 1fr; } .shots { grid-template-columns: 1fr 1fr; } }
{{ sheet_css }}
</style>
<h1>Which candidate leads</h1>
<p><strong>{{ comparison.decision }}</strong></p>
<p class="soft">Ranked by mean Dice on validation{% if classes %}, the mean over
{{ classes|join(", ") }}{% endif %}. The test set is shown beside it and chooses nothing. Not for clinical use.</p>
<div class="cards">
<div class="card"><div class="soft">Leader on validation</div><div class="value">{{ comparison.standings[0].candidate }}
</div><small class="soft">Dice {{ comparison.standings[0].val_dice|interval }}</small></div>
{% if comparison.differences %}{% set lead = comparison.differences[0] %}
<div class="card"><div class="soft">Ahead of {{ lead.b }} by</div>
<div class="value">{{ lead.difference.mean|signed(4) }}</div>
<small class="{{ ("good" if lead.difference.side > 0 else "bad") if lead.real else "warn" }}">
{{- verdict(lead) }}</small></div>
{% endif %}
<div class="card"><div class="soft">Challenger</div><div class="value">{{ comparison.challenger or "none" }}</div>
<small class="soft">the best registered candidate</small></div>
<div class="card"><div class="soft">Where the leader falls behind</div>
<div class="value {{ "bad" if regressions else "good" }}">{{ regressions }}</div>
<small class="soft">subgroups by more than {{ "%g"|format(comparison.subgroup_margin) }}</small></div>
</div>
<div class="scroll drawings">{{ dice_drawing }}</div>
<div class="scroll"><table>
<tr><th>rank</th><th>candidate</th><th>validation Dice</th><th>test Dice</th><th class="number">val IoU</th>
<th class="number">test IoU</th>
<th class="number">val false positives</th>
<th class="number">test false positives</th>
<th class="number">val ECE</th><th class="number">test ECE</th><th>version</th></tr>
{% for one in comparison.standings %}
<tr><td>{{ one.rank }}</td>
<td>{% if one.candidate in links %}<a href="{{ links[one.candidate] }}">{{ one.candidate }}</a>
{%- else %}{{ one.candidate }}{% endif %}
{% if one.candidate == comparison.challenger %}<br><small class="good">challenger</small>{% endif %}</td>
<td>{{ one.val_dice|interval }}</td><td>{{ one.test_dice|interval }}</td>
<td class="number">{{ one.val_iou|score }}</td><td class="number">{{ one.test_iou|score }}</td>
<td class="number">{{ one.val_false_positives|score }}</td><td class="number">{{ one.test_false_positives|score }}</td>
<td class="number">{{ one.val_ece|score }}</td><td class="number">{{ one.test_ece|score }}</td>
<td>{% if one.registered %}<span class="version">{{ one.version }}</span>{% else %}<span class="bad">not registered
</span><br><small>{{ one.reason }}</small>{% endif %}</td></tr>
{% endfor %}
</table></div>
<p class="soft"><small>Intervals are {{ level }} intervals over groups; a failure that only one group in ten has
may lie outside them. False positives: the share of images
without foreground in which some was predicted. ECE: expected calibration error over pixels.</small></p>

{% if comparison.differences %}
<h2>Is the lead real</h2>
<p class="soft">Dice of the leader minus Dice of another on the same images, those whose truth has foreground. It is
real when the interval excludes 0 and
the adjusted p of Wilcoxon's test lies below {{ "%.3g"|format(1 - comparison.confidence) }}.</p>
<div class="scroll drawings">{{ leads_drawing }}</div>
{{ difference_table(leads) }}
{% if comparison.differences|length > leads|length %}
<details><summary>All pairs</summary>{{ difference_table(comparison.differences) }}</details>
{% endif %}
<p class="soft"><small>Groups are the units, since images of one field or patient aren't independent. Interval:
{{ level }}, of the paired differences, over groups. p: Wilcoxon's signed-rank test of the groups' mean differences,
two-sided; groups without a difference are left out. Adjusted: by Holm over all pairs of the subset, since the leader
was chosen by the same scores. Effect: matched-pairs rank-biserial correlation, from &minus;1 to 1.</small></p>

<h2>Image by image</h2>
<p class="soft">Each dot is an image's Dice: above the diagonal the first candidate is better there. Point at a dot for
its image and group. Below each drawing stand the images that differ most, whichever side that favours.
{% if classes %}Rims are the classes'{% for name, colour in colours.items() %} {{ key(colour) }}{{ name }}{% endfor %};
wrong pixels have the predicted class's colour, {{ key("#ffffff") }}white where a class was missed.{% else %}Rims are
{{ key("#f0e442") }}the mask's; {{ key("#e69f00") }}predicted alone, {{ key("#56b4e9") }}missed.{% endif %}{{ " " }}
Point at a picture to see the image alone.{% if partly %} Pictures are kept of {{ available }} images
(<code>evaluate.thumbnails</code>).{% endif %}</p>
{% for pair in pairs %}
<details{% if loop.first %} open{% endif %}><summary>{{ pair.a }} against {{ pair.b }}</summary>
<div class="square">{{ pair.drawing }}</div>
{% if pair.val %}<h3>The {{ pair.val|length }} validation images that differ most</h3>
{{ sheet_rows(pair.val, pair.a, pair.b) }}
{% else %}<p class="soft">No validation image with a difference has a picture.</p>
{% endif %}
{% if pair.test %}<details><summary>The {{ pair.test|length }} test images that differ most</summary>
{{ sheet_rows(pair.test, pair.a, pair.b) }}</details>{% endif %}
</details>
{% endfor %}

<h2>Subgroups</h2>
<p class="soft">Mean Dice of the leader and of another where images have something in common. <span class="bad">Marked
</span> is where the leader lies more than {{ "%g"|format(comparison.subgroup_margin) }} below, on at least
{{ fewest }} images; smaller ones aren't judged.</p>
{% for other, table in subgroups.items() %}
<h3>{{ comparison.standings[0].candidate }} against {{ other }}</h3>
{% if table %}
<div class="scroll"><table>
<tr><th></th><th class="number">images</th><th>validation, difference</th><th class="number">images</th>
<th>test, difference</th></tr>
{% for kind, rows in table.items() %}
<tr class="kind"><th colspan="5">by {{ kind }}</th></tr>
{% for name, by_subset in rows.items() %}
<tr><td>{{ name }}</td>{% for subset in ("val", "test") %}{% set one = by_subset.get(subset) %}
{% if one %}<td class="number">{{ one.images }}</td><td{% if one.regressed %} class="mark"{% endif %}>
<span{% if one.regressed %} class="bad"{% endif %}>{{ one.difference.mean|signed(3) }}</span>
({{ one.difference.range_words(signed=True) }})
{% if one.regressed %}<strong class="bad">falls behind</strong>{% endif %}<br><small class="soft">
{{- one.dice_a|score }} against {{ one.dice_b|score }}
{%- if one.regressed is none %}, too few to judge{% endif %}</small>
</td>{% else %}<td class="number">&ndash;</td><td></td>{% endif %}{% endfor %}</tr>
{% endfor %}{% endfor %}
</table></div>
{% else %}<p class="soft">Neither modality, size nor a group parts these images.</p>{% endif %}
{% endfor %}
{% endif %}

{% if classes %}
<h2>Dice by class</h2>
<div class="scroll"><table>
<tr><th>candidate</th><th>subset</th>{% for name in classes %}<th>{{ name }}</th>{% endfor %}</tr>
{% for one in comparison.standings %}{% for subset in ("val", "test") %}
<tr><td>{{ one.candidate }}</td><td>{{ subset_name(subset) }}</td>
{% set scores = evaluations[one.candidate][subset].by_class %}
{% for name in classes %}<td>{{ scores[name].dice|interval }}</td>{% endfor %}
</tr>
{% endfor %}{% endfor %}
</table></div>
{% endif %}

<h2>Calibration</h2>
<p class="soft">How often {{ "the likeliest class is right" if classes else "a pixel is foreground" }} among pixels of a
confidence: below the diagonal a candidate is too sure. Point at a mark for its number of pixels.</p>
<div class="scroll drawings">{{ reliability_drawing }}</div>

<h2>Cost</h2>
<div class="scroll"><table>
<tr><th>candidate</th><th class="number">parameters</th><th class="number">GFLOPs</th>
<th class="number">milliseconds an image</th><th class="number">train seconds</th><th>measured on</th></tr>
{% for one in comparison.standings %}{% set time = times[one.candidate] %}
<tr><td>{{ one.candidate }}</td><td class="number">{{ "{:,}".format(one.parameters) }}</td>
<td class="number">{{ "%.3g"|format(one.gflops) }}</td>
<td class="number measured">{{ time.milliseconds|decimals(1) }}</td>
<td class="number measured">{{ time.train_seconds|decimals(0) }}</td>
<td class="measured">{{ time.devices }}</td></tr>
{% endfor %}
</table></div>
<p class="soft"><small>GFLOPs: of an image of the training images' median size, multiply-adds times two, over all
networks, folds, windows and views. Milliseconds and seconds were measured where evaluate and train last ran, and are a
dash where that isn't known; a training that went on from a checkpoint counts its last part.</small></p>

<h2>What was compared</h2>
<dl>
<dt>Test set</dt><dd><code>{{ comparison.test_sha256 }}</code></dd>
<dt>Protocol</dt><dd>{{ comparison.protocol }}</dd>
{% for one in comparison.standings %}<dt>{{ one.candidate }}</dt>
<dd>weights <code>{{ evaluations[one.candidate].weights_sha256 }}</code></dd>
{% endfor %}
</dl>
{% endblock %}
"""
