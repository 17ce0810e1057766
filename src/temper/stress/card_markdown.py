"""The model card as Markdown: a Jinja template.

It is a .py file so that it counts among the stage's sources. A backslash at the end of a line joins it with
the next one, so that the template does not contain the line break.
"""

MARKDOWN = """# {{ title }}: model card

A {{ card.kind }} model
{%- if card.data.classes %} with {{ card.data.classes }} classes{% endif %} for {{ card.data.size }},
evaluated on
{{ "{:,}".format(card.images.clean) }} test images\
{% if 'groups' in card.images %} of {{ "{:,}".format(card.images.groups) }} groups{% endif %},
{{ "{:,}".format(card.images.stress) }} of them under stress.
Every number was measured on the ONNX file that can be deployed.

{% if card.warnings %}
## Warnings

{% for warning in card.warnings %}
- **{{ warning }}**
{% endfor %}

{% endif %}
## Candidates

{% set families = card.candidates.values()|map(attribute="stress")|first|list %}
| candidate | {{ card.headline }}, {{ unit }} |\
{% for family in families %} under {{ family }}, {{ unit }} |{% endfor %} \
size | parameters | multiply-adds |
{%- if latency %} latency, batch 1 | images/s |{% endif +%}
|---|--:|{{ "--:|" * (families|length) }}--:|--:|--:|{{ "--:|--:|" if latency }}
{% for name, found in card.candidates.items() %}
| {{ name|cell }} | {{ found[card.headline]|spread }} |\
{% for part in found.stress.values() %} {{ part|spread }} |
{%- endfor %} {{ found.bytes|bytes }} | {{ found.params|count }} | {{ found.macs|count }} |
{%- if latency %} {{ "%.3g"|format(latency.candidates[name].latency_ms.median) }} ms |
{{- " {:,.0f}".format(latency.candidates[name].images_per_s.median) }} |{% endif +%}
{% endfor %}

In brackets: {{ "%g"|format(100 * card.confidence) }} % bootstrap intervals over\
{% if 'groups' in card.images %} groups of{% endif %} test images.
Under a family: the mean over its conditions and five severities.
{% if latency %}
Latency: median on {{ latency.machine.cpu }}, {{ latency.machine.cores }} cores, ONNX Runtime
{{ latency.machine.onnxruntime }}; images/s at
batch {{ (latency.candidates.values()|first).images_per_s.batch|default(256) }}.
{% endif %}

## Limits

{% for limit in limits %}
- {{ limit }}
{% endfor %}

## Figures

{% for plot in card.plots %}
### {{ plot.title }}

![{{ plot.title }}]({{ plot.file }})

{{ plot.text }}

{% endfor %}
## By {{ one }}

{{ card.headline }} in {{ unit }}, over the clean test images of each {{ one }}.\
{% if one != "class" %} Strata are the classes, and one stratum for images that show none of them.{% endif +%}

| {{ one }} |{% for name in card.candidates %} {{ name|cell }} |{% endfor %}\
{% for split in card.data.splits %} {{ split }} images |{% endfor +%}
|---|{{ "--:|" * (card.candidates|length + card.data.splits|length) }}
{% for stratum, found in card.strata.items() %}
| {{ stratum|cell }} |{% for name in card.candidates %} {{ found[name]|spread }} |{% endfor %}
{%- for split in card.data.splits %} {{ "{:,}".format(card.data.strata[stratum][split]) }} |{% endfor +%}
{% endfor %}

{% if card.parts %}
## By part of the truth

{{ card.headline }} in {{ unit }}, over all clean test images; what is not of the part is neither right \
nor wrong.

| part |{% for name in card.candidates %} {{ name|cell }} |{% endfor +%}
|---|{{ "--:|" * (card.candidates|length) }}
{% for part, found in card.parts.items() %}
| {{ part|cell }} |{% for name in card.candidates %} {{ found[name]|spread }} |{% endfor +%}
{% endfor %}

{% endif %}
## Conditions

| family | condition | strength at severity 1 to 5 | unit |
|---|---|---|---|
{% for item in card.conditions %}
| {{ item.family }} | {{ item.name }} | {{ item.strengths|join(", ") }} | {{ item.unit }} |
{% endfor %}

## Contract of the file

`{{ card.contract.file }}`, SHA-256 `{{ card.contract.digest }}`

| | name | type | shape |
|---|---|---|---|
{% for item in card.contract.inputs %}
| input | {{ item.name }} | {{ item.type }} | {{ item.shape|join(" x ") }} |
{% endfor %}
{% for item in card.contract.outputs %}
| output | {{ item.name }} | {{ item.type }} | {{ item.shape|join(" x ") }} |
{% endfor %}

The file takes raw pixels: it contains resizing, normalisation and read-out. Its metadata:

| key | value |
|---|---|
{% for key, value in card.contract.metadata.items() %}
| {{ key|cell }} | {{ value|cell }} |
{% endfor %}

## Data and lineage

| | |
|---|---|
{% for split, images in card.data.splits.items() %}
| {{ split }} split | {{ "{:,}".format(images) }} images |
{% endfor %}
{% for stage, digest in card.lineage.items() %}
| artifact of {{ stage }} | `{{ digest }}` |
{% endfor %}
{% if card.training %}

## Training

| | |
|---|---|
{% for key, value in card.training|rows %}
| {{ key|cell }} | {{ value|cell }} |
{% endfor %}
{% endif %}

## Licence

Not stated. The licences of the data and of any weights that training started from apply;
add them here before you share the model.
"""
