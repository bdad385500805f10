"""The look of a report and what moves in it: one style sheet and one script, both within the page."""

CSS = """
:root{--ink:#1c2733;--soft:#5b6875;--line:#dfe4ea;--paper:#fff;--wash:#f6f8fa;--blue:#1a5fa8;
--yes:#1a7f4b;--yes-wash:#e3f4ea;--no:#b42318;--no-wash:#fdeceb;--maybe:#8a5a00;--maybe-wash:#fdf3dc}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;font:15px/1.55 system-ui,"Segoe UI","DejaVu Sans",Helvetica,Arial,sans-serif;color:var(--ink);
background:var(--paper);display:grid;grid-template-columns:15.5rem minmax(0,1fr)}
nav{position:sticky;top:0;align-self:start;height:100vh;overflow:auto;padding:1.6rem 1.1rem;background:var(--wash);
border-right:1px solid var(--line);font-size:.87rem}
nav b{display:block;font-size:1.02rem;margin-bottom:.9rem}
nav a{display:block;color:var(--ink);text-decoration:none;padding:.2rem .5rem;border-radius:5px;overflow-wrap:anywhere}
nav a:hover{background:#e8edf3}
nav a.part{padding-left:1.3rem;color:var(--soft);font-size:.93em}
nav .dot{float:right;margin-left:.4em}
main{padding:2rem clamp(1rem,4vw,3.6rem) 5rem;max-width:82rem}
h1{font-size:1.75rem;line-height:1.25;margin:.1rem 0 .5rem}
h2{font-size:1.45rem;line-height:1.3;margin:3.4rem 0 .35rem;padding-top:1.3rem;border-top:3px solid var(--ink)}
main>section:first-child>h2{margin-top:0;border:0;padding:0;font-size:1.75rem}
h3{font-size:1.06rem;margin:2.1rem 0 .6rem}
p{max-width:50rem;margin:.45rem 0}
a{color:var(--blue)}
code,pre,.mono{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:.88em}
code{background:var(--wash);padding:.08em .3em;border-radius:3px}
pre{background:var(--wash);border:1px solid var(--line);border-radius:6px;padding:.75rem 1rem;overflow:auto;
white-space:pre-wrap;margin:.5rem 0}
.lead{color:var(--soft)}
.facts{display:flex;flex-wrap:wrap;gap:.4rem;margin:.75rem 0;padding:0;list-style:none}
.facts li{background:var(--wash);border:1px solid var(--line);border-radius:99px;padding:.06rem .7rem;font-size:.83rem}
.facts li.bad{background:var(--no-wash);border-color:#f1b8b3;color:var(--no)}
.facts li.warn{background:var(--maybe-wash);border-color:#ecd9a8;color:var(--maybe)}
.note{border-left:4px solid #e0a92e;background:var(--maybe-wash);padding:.45rem .85rem;margin:.5rem 0;max-width:50rem;
border-radius:0 5px 5px 0;font-size:.92rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:7px;margin:.55rem 0;max-height:38rem;overflow-y:auto}
#overview .wide{max-height:none}
table{border-collapse:collapse;width:100%;font-size:.87rem;line-height:1.4}
th,td{padding:.4rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}
th{position:sticky;top:0;background:var(--wash);font-weight:600;white-space:nowrap;z-index:1}
th[data-sort]{cursor:pointer}
th[data-sort]:hover{color:var(--blue)}
th[data-sort]::after{content:" \\2195";color:#b5bfca}
th.up::after{content:" \\2191";color:var(--ink)}
th.down::after{content:" \\2193";color:var(--ink)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.w{white-space:nowrap}
tbody tr:hover td{background:#fafbfc}
tr.wrong td{background:var(--no-wash)}
.badge{display:inline-block;border-radius:99px;padding:0 .7em;font-weight:600;font-size:.83rem;white-space:nowrap}
.yes{background:var(--yes-wash);color:var(--yes)}
.no{background:var(--no-wash);color:var(--no)}
.maybe{background:var(--maybe-wash);color:var(--maybe)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1.1rem;align-items:start}
.figures:has(figure:only-child){max-width:46rem}
figure{margin:0;border:1px solid var(--line);border-radius:7px;padding:.7rem .8rem .5rem}
figure svg{width:100%;height:auto;display:block}
figcaption{font-size:.83rem;color:var(--soft);display:flex;justify-content:space-between;gap:1rem;padding-top:.35rem;
flex-wrap:wrap}
.topologies figure{overflow-x:auto}
.topologies svg{width:auto;max-width:100%;margin:auto}
details{margin:.6rem 0}
summary{cursor:pointer;font-weight:600}
input[type=search]{font:inherit;font-size:.87rem;padding:.28rem .7rem;border:1px solid var(--line);border-radius:6px;
width:min(100%,24rem)}
button{font:inherit;font-size:.8rem;border:1px solid var(--line);background:#fff;border-radius:5px;padding:.1rem .65rem;
cursor:pointer;float:right}
button:hover{background:var(--wash)}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;font-size:.83rem;color:var(--soft);margin:.3rem 0}
.legend i{display:inline-block;width:.85em;height:.85em;border-radius:2px;margin-right:.4em;vertical-align:-.08em}
.heat{overflow:auto;max-height:48rem}
.matrices{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.1rem}
#tip{position:fixed;pointer-events:none;background:#1c2733;color:#fff;font-size:.8rem;padding:.3rem .6rem;
border-radius:5px;z-index:9;display:none;max-width:24rem}
dl.context{display:grid;grid-template-columns:minmax(9rem,15rem) minmax(0,1fr);margin:.4rem 0;font-size:.87rem}
dl.context dt{color:var(--soft);padding:.16rem 0}
dl.context dd{margin:0;padding:.16rem 0;overflow-wrap:anywhere}
footer{margin-top:4rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);font-size:.83rem}
@media(max-width:60rem){body{display:block}
nav{position:static;height:auto;border-right:0;border-bottom:1px solid var(--line)}}
@media print{nav,button,input[type=search]{display:none}body{display:block;font-size:10pt}main{padding:0;max-width:none}
.wide,.heat{max-height:none;overflow:visible}figure,tr{break-inside:avoid}h2,h3{break-after:avoid}th{position:static}}
"""

SCRIPT = r"""
"use strict";
const tip = document.getElementById("tip");
function show(event, text) {
  tip.textContent = text;
  tip.style.display = "block";
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
}
function hide() { tip.style.display = "none"; }

const colours = ["#ffffff", "#2a9d4e", "#d9d9d9", "#ff9f1c", "#d62728"];
const meanings = ["not asked", "reached", "not reached, as expected", "reached against expectation",
                  "lost: expected and not reached"];
for (const canvas of document.querySelectorAll("canvas.matrix")) {
  const data = JSON.parse(canvas.nextElementSibling.textContent);
  const codes = Uint8Array.from(atob(data.codes), letter => letter.charCodeAt(0));
  const rows = data.sources.length, columns = data.targets.length, most = Math.max(rows, columns);
  const size = most <= 24 ? 19 : most <= 60 ? 12 : most <= 200 ? 5 : most <= 600 ? 2 : 1;
  const named = size >= 12, pen = canvas.getContext("2d"), font = (size >= 15 ? 11 : 9) + "px system-ui, sans-serif";
  pen.font = font;
  const longest = names => Math.ceil(Math.max(0, ...names.map(name => pen.measureText(name).width)));
  const left = named ? longest(data.sources) + 10 : 2, top = named ? longest(data.targets) + 10 : 2;
  const width = left + columns * size + 2, height = top + rows * size + 2, sharp = window.devicePixelRatio || 1;
  canvas.width = width * sharp; canvas.height = height * sharp;
  canvas.style.width = width + "px"; canvas.style.height = height + "px";
  pen.scale(sharp, sharp);
  const gap = size >= 12 ? 1 : size >= 5 ? 0.5 : 0;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const code = codes[row * columns + column];
      if (!code) continue;
      pen.fillStyle = colours[code];
      pen.fillRect(left + column * size, top + row * size, size - gap, size - gap);
    }
  if (named) {
    pen.font = font; pen.fillStyle = "#1c2733"; pen.textBaseline = "middle"; pen.textAlign = "right";
    data.sources.forEach((name, row) => pen.fillText(name, left - 5, top + (row + 0.5) * size));
    pen.textAlign = "left";
    data.targets.forEach((name, column) => {
      pen.save();
      pen.translate(left + (column + 0.5) * size, top - 5);
      pen.rotate(-Math.PI / 2);
      pen.fillText(name, 0, 0);
      pen.restore();
    });
  }
  canvas.dataset.drawn = String(codes.filter(code => code).length);
  canvas.addEventListener("mousemove", event => {
    const column = Math.floor((event.offsetX - left) / size), row = Math.floor((event.offsetY - top) / size);
    if (row < 0 || column < 0 || row >= rows || column >= columns) return hide();
    show(event, data.sources[row] + " \u2192 " + data.targets[column] + ": " + meanings[codes[row * columns + column]]);
  });
  canvas.addEventListener("mouseleave", hide);
}

function valueOf(row, column) {
  const cell = row.cells[column], text = cell.dataset.value ?? cell.textContent.trim(), number = Number(text);
  return text !== "" && !Number.isNaN(number) ? number : text;
}
for (const head of document.querySelectorAll("th[data-sort]"))
  head.addEventListener("click", () => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const up = !head.classList.contains("up");
    for (const other of head.parentElement.cells) other.classList.remove("up", "down");
    head.classList.add(up ? "up" : "down");
    const rows = [...body.rows].map(row => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      const order = typeof a === "number" && typeof b === "number" ? a - b
        : String(a).localeCompare(String(b), undefined, {numeric: true});
      return up ? order : -order;
    });
    body.append(...rows.map(([, row]) => row));
  });
for (const field of document.querySelectorAll("input[data-filters]"))
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(word => word);
    for (const row of document.getElementById(field.dataset.filters).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  });
for (const button of document.querySelectorAll("button[data-copies]"))
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copies).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a page from a file may not have the clipboard
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(button.dataset.copies));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
document.documentElement.dataset.ready = "yes";
"""
