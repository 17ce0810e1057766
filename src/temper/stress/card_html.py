"""The model card as a self-contained web page: a Jinja template.

It is a .py file so that it counts among the stage's sources. A backslash at the end of a line joins it with
the next one, so that the template does not contain the line break.
"""

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: model card</title>
<style>
:root { color-scheme: light dark; --ink: #1c2024; --soft: #626a73; --line: #dde1e6; --paper: #fff;
  --tint: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa3ad; --line: #353b42; --paper: #16191d; --tint: #1e2227; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 68rem; background: var(--paper);
  color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; }
p, li { max-width: 46rem; }
.soft, figcaption, th small, td small { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .9rem .38rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
thead th { font-weight: 600; white-space: normal; vertical-align: bottom; }
th.n, td.n { text-align: right; }
tbody th { font-weight: 600; }
td small, th small { display: block; font-weight: 400; }
code { font: .85em ui-monospace, SFMono-Regular, Menlo, monospace; background: var(--tint);
  padding: .1em .3em; border-radius: 4px; overflow-wrap: anywhere; white-space: normal; }
figure { margin: .8rem 0 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 6px;
  border: 1px solid var(--line); }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="soft">Model card. A {{ card.kind }} model
{%- if card.data.classes %} with {{ card.data.classes }} classes{% endif %} for {{ card.data.size }},
evaluated on {{ "{:,}".format(card.images.clean) }} test images\
{% if 'groups' in card.images %} of {{ "{:,}".format(card.images.groups) }} groups{% endif %},
{{ "{:,}".format(card.images.stress) }} of them under stress.
Every number was measured on the ONNX file that can be deployed.</p>

{% if card.warnings %}
<h2>Warnings</h2>
<ul>
{% for warning in card.warnings %}
<li><strong>{{ warning }}</strong></li>
{% endfor %}
</ul>
{% endif %}

<h2>Candidates</h2>
<div class="wide"><table>
<thead><tr><th></th><th class="n">{{ card.headline }}, {{ unit }}</th>
{% for family in card.candidates.values()|map(attribute="stress")|first %}
<th class="n">under {{ family }}, {{ unit }}</th>
{% endfor %}
<th class="n">size</th><th class="n">parameters</th><th class="n">multiply-adds</th>
{% if latency %}<th class="n">latency, batch 1</th><th class="n">images/s</th>{% endif %}
</tr></thead>
<tbody>
{% for name, found in card.candidates.items() %}
<tr><th>{{ name }}</th>
{% for part in [found[card.headline]] + found.stress.values()|list %}
<td class="n">{{ part.value|score }}<small>{{ part.low|score }}&ndash;{{ part.high|score }}</small></td>
{% endfor %}
<td class="n">{{ found.bytes|bytes }}</td><td class="n">{{ found.params|count }}</td>
<td class="n">{{ found.macs|count }}</td>
{% if latency %}
{% set speed = latency.candidates[name] %}
<td class="n">{{ "%.3g"|format(speed.latency_ms.median) }} ms<small>\
{{ "%.3g"|format(speed.latency_ms.p10) }}&ndash;{{ "%.3g"|format(speed.latency_ms.p90) }}</small></td>
<td class="n">{{ "{:,.0f}".format(speed.images_per_s.median) }}</td>
{% endif %}
</tr>
{% endfor %}
</tbody>
</table></div>
<p class="soft">Small figures: {{ "%g"|format(100 * card.confidence) }} % bootstrap intervals over\
{% if 'groups' in card.images %} groups of{% endif %} test images.
Under a family: the mean over its conditions and five severities.{% if latency %} Latency: median,
and 10th to 90th percentile, on {{ latency.machine.cpu }}, {{ latency.machine.cores }} cores,
ONNX Runtime {{ latency.machine.onnxruntime }}; images/s at
batch {{ (latency.candidates.values()|first).images_per_s.batch|default(256) }}.{% endif %}</p>

<h2>Limits</h2>
<ul>
{% for limit in limits %}
<li>{{ limit }}</li>
{% endfor %}
</ul>

<h2>Figures</h2>
{% for plot in card.plots %}
<h3>{{ plot.title }}</h3>
<figure><img src="{{ plot.file|uri }}" alt="{{ plot.title }}">\
<figcaption>{{ plot.text }}</figcaption></figure>
{% endfor %}

<h2>By {{ one }}</h2>
<p class="soft">{{ card.headline }} in {{ unit }}, over the clean test images of each {{ one }}.\
{% if one != "class" %} Strata are the classes, and one stratum for images that show none of them.\
{% endif %}</p>
<div class="wide"><table>
<thead><tr><th></th>{% for name in card.candidates %}<th class="n">{{ name }}</th>{% endfor %}
{% for split in card.data.splits %}<th class="n">{{ split }} images</th>{% endfor %}</tr></thead>
<tbody>
{% for stratum, found in card.strata.items() %}
<tr><th>{{ stratum }}</th>
{% for name in card.candidates %}
<td class="n">{{ found[name].value|score }}<small>\
{{ found[name].low|score }}&ndash;{{ found[name].high|score }}</small></td>
{% endfor %}
{% for split in card.data.splits %}\
<td class="n">{{ "{:,}".format(card.data.strata[stratum][split]) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>

{% if card.parts %}
<h2>By part of the truth</h2>
<p class="soft">{{ card.headline }} in {{ unit }}, over all clean test images; what is not of the part \
is neither right nor wrong.</p>
<div class="wide"><table>
<thead><tr><th></th>{% for name in card.candidates %}<th class="n">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for part, found in card.parts.items() %}
<tr><th>{{ part }}</th>
{% for name in card.candidates %}
<td class="n">{{ found[name].value|score }}<small>\
{{ found[name].low|score }}&ndash;{{ found[name].high|score }}</small></td>
{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>

{% endif %}
<h2>Conditions</h2>
<div class="wide"><table>
<thead><tr><th>family</th><th>condition</th><th>strength at severity 1 to 5</th><th>unit</th></tr></thead>
<tbody>
{% for item in card.conditions %}
<tr><td>{{ item.family }}</td><td>{{ item.name }}</td><td>{{ item.strengths|join(", ") }}</td>\
<td>{{ item.unit }}</td></tr>
{% endfor %}
</tbody>
</table></div>

<h2>Contract of the file</h2>
<p><code>{{ card.contract.file }}</code>, SHA-256 <code>{{ card.contract.digest }}</code></p>
<div class="wide"><table>
<thead><tr><th></th><th>name</th><th>type</th><th>shape</th></tr></thead>
<tbody>
{% for item in card.contract.inputs %}
<tr><td>input</td><td>{{ item.name }}</td><td>{{ item.type }}</td><td>{{ item.shape|join(" x ") }}</td></tr>
{% endfor %}
{% for item in card.contract.outputs %}
<tr><td>output</td><td>{{ item.name }}</td><td>{{ item.type }}</td><td>{{ item.shape|join(" x ") }}</td></tr>
{% endfor %}
</tbody>
</table></div>
<p class="soft">The file takes raw pixels: it contains resizing, normalisation and read-out. Its metadata:</p>
<div class="wide"><table><tbody>
{% for key, value in card.contract.metadata.items() %}
<tr><td>{{ key }}</td><td><code>{{ value }}</code></td></tr>
{% endfor %}
</tbody></table></div>

<h2>Data and lineage</h2>
<div class="wide"><table><tbody>
{% for split, images in card.data.splits.items() %}
<tr><td>{{ split }} split</td><td>{{ "{:,}".format(images) }} images</td></tr>
{% endfor %}
{% for stage, digest in card.lineage.items() %}
<tr><td>artifact of {{ stage }}</td><td><code>{{ digest }}</code></td></tr>
{% endfor %}
</tbody></table></div>
{% if card.training %}

<h2>Training</h2>
<div class="wide"><table><tbody>
{% for key, value in card.training|rows %}
<tr><td>{{ key }}</td><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}

<h2>Licence</h2>
<p>Not stated. The licences of the data and of any weights that training started from apply;
add them here before you share the model.</p>
</body>
</html>
"""
