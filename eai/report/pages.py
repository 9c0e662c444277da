"""The page templates that nbconvert fills: HTML in one file, Markdown, LaTeX, slides. None of them fetches anything.

They show the outputs that are elements (their metadata says so) and nothing else of a notebook. nbconvert's own templates load
MathJax and others from a network; these do not need them.
"""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 58rem; padding: 1rem 1.1rem 3rem;
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans CJK SC", "WenQuanYi Micro Hei", sans-serif; color: #1b1b1b;
  background: #fff; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2rem; border-bottom: 1px solid #ddd;
  padding-bottom: .2rem; } h3 { font-size: 1.05rem; margin-top: 1.5rem; }
.anchor-link { display: none; }
code { font-size: .9em; background: #f3f3f3; padding: 0 .2em; border-radius: 3px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .45rem; text-align: left !important; border-bottom: 1px solid #e3e3e3; white-space: nowrap; }
th { border-bottom: 2px solid #888; }
td:last-child { white-space: normal; min-width: 2.5rem; }
figure { margin: 1.2rem 0; } figure img { width: 100%; height: auto; display: block; }
figcaption, em { font-size: .85rem; color: #555; }
@media (max-width: 36rem) { figure { overflow-x: auto; } figure img { min-width: 34rem; } body { padding: .6rem .8rem 2rem; } }
@media print { .scroll { overflow: visible; } }
"""

SLIDE_STYLE = """
html { scroll-snap-type: y proximity; } body { max-width: none; padding: 0; }
section { min-height: 100vh; padding: 4vh 7vw 3rem; display: flex; flex-direction: column; justify-content: center;
  scroll-snap-align: start; border-bottom: 1px solid #ddd; position: relative; font-size: clamp(1rem, 1.9vw, 1.5rem); }
section h2 { font-size: clamp(1.5rem, 3.6vw, 2.7rem); border: 0; margin: 0 0 1rem; }
section h3 { font-size: clamp(1.8rem, 5vw, 3.6rem); margin: 0; color: #0072B2; }
section table { font-size: .85em; } section figure { margin: .5rem 0; } section figure img { width: 100%; max-height: 60vh; min-width: 0;
  object-fit: contain; }
section footer { position: absolute; bottom: .7rem; right: 1.2rem; font-size: .8rem; color: #777; }
aside { display: none; margin-top: 1rem; padding: .6rem 1rem; background: #fff7dc; font-size: 1rem; }
body.script aside { display: block; }
@page { size: 1280px 720px; margin: 0; }
@media print {
section { break-after: page; min-height: 0; height: 720px; border: 0; font-size: 22px; }
section figure img { max-height: 430px; }
section:last-of-type { break-after: auto; } }
"""

MOVE = """
const slides = [...document.querySelectorAll("section")];
const far = i => Math.abs(slides[i].getBoundingClientRect().top);
const here = () => slides.reduce((best, _, i) => far(i) < far(best) ? i : best, 0);
const go = step => slides[Math.max(0, Math.min(slides.length - 1, here() + step))].scrollIntoView();
addEventListener("keydown", event => {
  if (["ArrowRight", "ArrowDown", "PageDown", " "].includes(event.key)) { event.preventDefault(); go(1); }
  if (["ArrowLeft", "ArrowUp", "PageUp"].includes(event.key)) { event.preventDefault(); go(-1); }
  if (event.key === "s") document.body.classList.toggle("script");
});
"""

_HEAD = """<!DOCTYPE html>
<html lang="{{ resources.language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ resources.title }}</title>
<link rel="icon" href="data:,">
<style>%s</style>
</head>
"""

_OUTPUT = """
{%- macro element(output) -%}
{%- set eai = output.metadata.get("eai", {}) -%}
{%- if eai.kind == "prose" -%}
{{ output.data["text/markdown"] | markdown2html | scrolling }}
{%- elif eai.kind == "picture" -%}
<figure><img alt="{{ eai.caption or "figure" }}" src="data:image/svg+xml;base64,{{ output.data["image/svg+xml"] | base64 }}">
{%- if eai.caption %}<figcaption>{{ eai.caption }}</figcaption>{% endif %}</figure>
{%- elif eai.kind == "notes" -%}
<aside>{{ output.data["text/markdown"] | markdown2html }}</aside>
{%- endif -%}
{%- endmacro -%}
"""

HTML = (
    _OUTPUT
    + _HEAD % STYLE
    + """<body>
{% for cell in nb.cells if cell.cell_type == "code" %}{% for output in cell.outputs if output.get("data") %}
{{ element(output) }}
{% endfor %}{% endfor %}
</body>
</html>
"""
)

SLIDES = (
    _OUTPUT
    + _HEAD % (STYLE + SLIDE_STYLE)
    + """<body>
{% for cell in nb.cells if cell.cell_type == "code" and "slide" in cell.metadata.get("tags", []) %}<section>
{% for output in cell.outputs if output.get("data") %}{{ element(output) }}
{% endfor %}<footer>{{ loop.index }} / {{ loop.length }}</footer></section>
{% endfor %}
<script>"""
    + MOVE
    + """</script>
</body>
</html>
"""
)

MARKDOWN = """
{%- for cell in nb.cells if cell.cell_type == "code" -%}{%- for output in cell.outputs if output.get("data") -%}
{%- set eai = output.metadata.get("eai", {}) -%}
{%- if eai.kind == "prose" -%}
{{ output.data["text/markdown"] }}

{% elif eai.kind == "picture" -%}
![{{ eai.caption }}]({{ output.metadata.filenames["image/svg+xml"] }})

{% endif -%}
{%- endfor -%}{%- endfor -%}
"""

LATEX = r"""((*- if resources.language == "zh" *))\documentclass[a4paper,twocolumn,fontset=fandol]{ctexart}
((* else *))\documentclass[a4paper,twocolumn]{article}
\usepackage{fontspec}
\usepackage[raggedright]{titlesec}
((* endif *))\usepackage[margin=18mm]{geometry}
\usepackage{graphicx,booktabs,microtype}
\newsavebox\fittedbox
\newcommand\fitted[1]{\sbox\fittedbox{#1}\ifdim\wd\fittedbox>\linewidth\resizebox{\linewidth}{!}{\usebox\fittedbox}\else\usebox\fittedbox\fi}
\setlength\emergencystretch{3em}
\renewcommand\topfraction{.9}\renewcommand\dbltopfraction{.9}\renewcommand\textfraction{.05}
\renewcommand\floatpagefraction{.8}\renewcommand\dblfloatpagefraction{.8}
\setcounter{topnumber}{4}\setcounter{dbltopnumber}{4}\setcounter{totalnumber}{6}
\setlength\belowcaptionskip{4pt}
\raggedbottom
\begin{document}
((* for cell in nb.cells if cell.cell_type == "code" *))((* for output in cell.outputs if output.get("data") *))
((*- set eai = output.metadata.get("eai", {}) -*))
((*- if eai.kind == "prose" *))
((( output.data["text/x-tex"] )))

((* elif eai.kind == "picture" *))
\begin{figure*}[tb]\centering
\includegraphics[width=0.8\textwidth,height=0.78\textheight,keepaspectratio]{((( output.metadata.filenames["application/pdf"] )))}
\caption{((( eai.caption_tex )))}\end{figure*}

((* endif *))((* endfor *))((* endfor *))
\end{document}
"""
