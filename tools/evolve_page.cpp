#include "tools/evolve_page.h"

namespace moe::tools {
namespace {

// Colours are those of Okabe and Ito (Color Universal Design, 2002), which people with any colour vision tell apart.
constexpr std::string_view kHead = R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>moe-evolve</title>
<style>
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f8f9fb; --text: #1d2128; --faint: #646b76; --grid: #e2e5ea; --frame: #b0b6be; --masked: #e3e6eb;
  --blue: #0072b2; --orange: #d55e00; --green: #009e73; --amber: #b87f00; --pink: #b65a90; --sky: #2f8ec4; --warn: #a33a00;
  --cloud: #8a94a3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --panel: #1b1f26; --text: #e6e9ee; --faint: #98a1ae; --grid: #2b313b; --frame: #4b535f; --masked: #2c323c;
    --blue: #56a5e0; --orange: #f0803a; --green: #2cc298; --amber: #e6b030; --pink: #d98ab8; --sky: #7cc4ec; --warn: #ff9a5c;
    --cloud: #6d7785;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 20px 24px 60px; max-width: 1240px; background: var(--paper); color: var(--text);
  font: 15px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 8px; }
p { margin: 4px 0 10px; }
.faint { color: var(--faint); }
.warn { color: var(--warn); font-weight: 600; }
section { background: var(--panel); border: 1px solid var(--grid); border-radius: 8px; padding: 14px 16px; margin: 14px 0;
  min-width: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px;
  margin: 14px 0; }
.pair section { margin: 0; }
@media (max-width: 520px) { .pair { grid-template-columns: 1fr; } }
canvas { display: block; width: 100%; touch-action: manipulation; }
.controls { display: flex; flex-wrap: wrap; gap: 6px 16px; margin-bottom: 8px; align-items: center; }
label { display: inline-flex; gap: 6px; align-items: center; }
select, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--frame); border-radius: 5px;
  padding: 2px 6px; max-width: 260px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 6px; font-size: 13px; color: var(--faint); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.scroll { overflow-x: auto; max-height: 560px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--faint); font-weight: 600; position: sticky; top: 0; background: var(--panel); }
tr.chosen td { background: color-mix(in srgb, var(--sky) 22%, transparent); }
tr[tabindex] { cursor: pointer; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 6px 20px; margin: 10px 0 0; }
dt { color: var(--faint); font-size: 13px; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--paper); border: 1px solid var(--grid); border-radius: 5px; padding: 8px 10px; margin: 8px 0 0;
  overflow-x: auto;  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
#tip { position: fixed; pointer-events: none; z-index: 9; background: var(--text); color: var(--paper); border-radius: 5px;
  padding: 5px 9px; font-size: 13px; white-space: pre; max-width: 420px; overflow: hidden; display: none; }
details summary { cursor: pointer; color: var(--faint); }
</style>
</head>
<body>
<noscript>This page draws with JavaScript, all of which is in this file.</noscript>
<main id="main"></main>
<div id="tip" role="status"></div>
<script type="application/json" id="run">)html";

constexpr std::string_view kScript = "</script>\n<script>\n\"use strict\";\n";
constexpr std::string_view kEnd = "</script>\n</body>\n</html>\n";

}  // namespace

std::string report_html(std::string_view json) {
  std::string page;
  for (const std::string_view part : {kHead, json, kScript, kPageDrawing, kPagePanels, kEnd}) page += part;
  return page;
}

}  // namespace moe::tools
