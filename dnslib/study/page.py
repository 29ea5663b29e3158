"""Text of the report's page: its HTML frame and its style, for screen in light and dark, and for paper."""

from string import Template

STYLE = """
:root { --ink: #1d2430; --soft: #5b6675; --paper: #fff; --panel: #f4f6f9; --line: #d8dee7; --accent: #1d5fa8;
  --good: #1b7f4b; --bad: #b3362b; --open: #8a6100; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe5ee; --soft: #98a4b5; --paper: #14181f; --panel: #1d232d;
  --line: #333c4a; --accent: #7fb4f0; --good: #5fcf95; --bad: #f08a80; --open: #e0b552; }
  .output_png img, .output_svg img { background: #fff; border-radius: 4px; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; color: var(--ink); background: var(--paper); font: 17px/1.6 system-ui, "Segoe UI", sans-serif;
  display: grid; grid-template-columns: 18rem minmax(0, 1fr); }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1.2rem; background: var(--panel);
  border-right: 1px solid var(--line); font-size: 14px; line-height: 1.45; }
nav ul { list-style: none; margin: 0; padding: 0; } nav li { margin: .45rem 0; }
nav ul ul { padding-left: .9rem; } nav ul ul li { margin: .15rem 0; } nav ul ul a { color: var(--soft); }
nav button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line);
  border-radius: 6px; padding: .3rem .7rem; cursor: pointer; margin: .6rem 0; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
main { padding: 2rem clamp(1rem, 4vw, 4rem) 6rem; max-width: 76rem; }
main p, main li { max-width: 46rem; }
h1, h2, h3 { line-height: 1.25; margin: 2.2em 0 .6em; } h1 { font-size: 1.7rem; } h2 { font-size: 1.3rem; }
h3 { font-size: 1.08rem; } header h1 { margin-top: 0; font-size: 2rem; }
section { border-top: 1px solid var(--line); margin-top: 3.5rem; padding-top: .5rem; }
section h1 { margin-top: .4em; } .source, .facts { color: var(--soft); font-size: 14px; max-width: none; }
.banner { max-width: none; background: color-mix(in srgb, var(--open) 14%, var(--paper));
  border-left: 4px solid var(--open); padding: .6rem 1rem; border-radius: 4px; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border: 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.output_html td { text-align: right; } .output_html td:first-child { text-align: left; } th { font-weight: 600; }
table.dataframe { border: 0; }
.verdict { font-weight: 600; } .reproduced { color: var(--good); } .not-reproduced { color: var(--bad); }
.not-decided { color: var(--open); }
details.code { margin: .6rem 0; } details.code summary { cursor: pointer; color: var(--soft); font-size: 13px; }
pre, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .86em; }
pre { background: var(--panel); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; line-height: 1.45; }
.output_stream pre, .output_text pre { background: none; padding: .2rem 0; color: var(--soft); }
.output_error pre { color: var(--bad); }
img, svg { max-width: min(100%, 60rem); height: auto; } audio { width: 12rem; vertical-align: middle; }
.output_html:has(audio) { overflow-x: auto; }
math[display="block"] { margin: 1rem 0; font-size: 1.1em; padding: .3rem 0; overflow: auto hidden; }
math { font-size: 1.06em; }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 3px solid var(--line); color: var(--soft); }
.highlight .k, .highlight .kn, .highlight .ow { color: var(--accent); } .highlight .c1 { color: var(--soft); }
.highlight .s1, .highlight .s2, .highlight .sa { color: var(--good); } 
.highlight .mi, .highlight .mf { color: var(--open); }
@media (max-width: 60rem) { body { display: block; } nav { position: static; height: auto; } }
@media print { body { display: block; font-size: 11pt; } nav, details.code, audio { display: none; }
  section { break-before: page; border: 0; } .output_png, tr { break-inside: avoid; }
  main { max-width: none; padding: 0; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<nav>
<strong>Contents</strong><br>
<button type="button" id="toggle-code">show all code</button>
<ul>$contents</ul>
</nav>
<main>
<header><h1>$title</h1><p class="facts">$provenance</p>$banner</header>
$claims
$sections
</main>
<script>
const button = document.getElementById("toggle-code");
button.addEventListener("click", () => {
  const open = button.textContent.startsWith("show");
  document.querySelectorAll("details.code").forEach(one => { one.open = open; });
  button.textContent = open ? "hide all code" : "show all code";
});
</script>
</body>
</html>
""")
