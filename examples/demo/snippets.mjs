// Runs the document's own snippets: every code block that opens a socket, unchanged, in a frame. The documents' code is
// not part of this repository.

const OPENS = /new WebSocket\(|websockets\.connect\(/;

/** Shows the snippets of the document, with a button to run those in JavaScript. */
export async function showSnippets(settings, rules = {}) {
  const section = document.getElementById('snippets');
  const response = await fetch(settings.get('document'));
  if (!response.ok) return;
  const knows = {
    node: settings.get('node'),
    token: settings.get('token'),
    placeholder: rules.placeholder,
    queryToken: rules.queryToken && settings.get('token'),
  };
  section.append(...blocksOf(await response.text()).map((block) => shown(block, knows)));
  section.hidden = false;
}

/** The code blocks that open a socket, with their line numbers. Removes the indentation of blocks in lists. */
function blocksOf(text) {
  const blocks = [];
  let open = null;
  text.split(/\r?\n/).forEach((line, index) => {
    const fence = /^\s*```(\w*)\s*$/.exec(line);
    if (!fence) open?.lines.push(line);
    else if (!open) open = { language: fence[1], from: index + 2, lines: [] };
    else {
      const indent = Math.min(...open.lines.filter((it) => it.trim()).map((it) => it.search(/\S/)));
      const code = open.lines.map((it) => it.slice(indent)).join('\n');
      if (OPENS.test(code)) blocks.push({ language: open.language, code, from: open.from, to: index });
      open = null;
    }
  });
  return blocks;
}

function shown({ language, code, from, to }, knows) {
  const card = document.createElement('div');
  card.className = 'card';
  card.dataset.snippet = `${from}`;
  card.innerHTML = '<strong></strong> <button>Run</button><pre></pre><ul class="log"></ul>';
  const [title, button, pre, log] = card.children;
  title.textContent = `${language}, lines ${from} to ${to}`;
  pre.textContent = code;
  if (language === 'javascript') button.addEventListener('click', () => run(card, code, knows, log));
  else {
    button.remove();
    log.replaceWith('This cannot run in a page: tests/frontends/snippets.mjs runs it.');
  }
  return card;
}

/** Runs a snippet in a frame with its own origin, so that it cannot read the tokens in this page's address. */
function run(card, code, knows, log) {
  card.querySelector('iframe')?.remove();
  log.replaceChildren();
  const frame = document.createElement('iframe');
  frame.setAttribute('sandbox', 'allow-scripts');
  addEventListener('message', ({ source, data }) => {
    if (source !== frame.contentWindow) return;
    const line = document.createElement('li');
    line.textContent = data;
    log.prepend(line);
    while (log.children.length > 100) log.lastChild.remove();
  });
  frame.addEventListener('load', () => frame.contentWindow.postMessage({ code, knows }, '*'));
  frame.src = 'frame.html';
  card.append(frame);
}
