// What the HTML of a page may not have: a drawing, anything inline that runs or styles, anything from elsewhere. Read from the bytes
// that were sent, not from what a browser made of them.

// The tags of a text, names and attributes in small letters.
function tags(html) {
  return [...html.matchAll(/<([a-z][a-z0-9-]*)((?:\s+[^\s=>"']+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s>"']+))?)*)\s*\/?>/gi)].map(([, name, rest]) => {
    const attributes = [...rest.matchAll(/([^\s=>"']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+)))?/g)];
    return { name: name.toLowerCase(), attributes: attributes.map((it) => [it[1].toLowerCase(), it[2] ?? it[3] ?? it[4] ?? '']) };
  });
}

// All that is wrong with it; `script` says whether scripts of the service itself are allowed.
export function faultsOf(html, { script = false } = {}) {
  const faults = [];
  const all = tags(html);
  if (all.length < 10) faults.push('has hardly a tag');
  // What this reader of tags doesn't understand counts as a fault, so that nothing hides in it.
  const begun = (html.match(/<[a-z]/gi) ?? []).length;
  if (begun !== all.length) faults.push(`has ${begun - all.length} tags that can't be read`);
  for (const { name, attributes } of all) {
    const has = (key) => attributes.find(([it]) => it === key)?.[1];
    if (['svg', 'style', 'iframe', 'object', 'embed', 'base', 'math', 'canvas'].includes(name)) faults.push(`has <${name}>`);
    if (name === 'script' && !(script && has('src'))) faults.push('has a script');
    for (const [key, value] of attributes) {
      if (key.startsWith('on') || key === 'style') faults.push(`has ${key}= in <${name}>`);
      if (/^(src|href|action|formaction|srcset|poster|data|ping|background)$/.test(key) && /^\s*([a-z][a-z0-9+.-]*:|\/\/)/i.test(value)) {
        faults.push(`leads elsewhere: <${name} ${key}="${value}">`);
      }
    }
  }
  return faults;
}

// That each rule finds what it is meant to find.
export function canFail(faults) {
  const frame = (it) => '<p>'.repeat(12) + it;
  const bad = [
    '<svg>', '<p style="a">', '<P ONCLICK=x>', '<script>', '<script src="/a">', '<a href="https://a.example/">', '<form action="//a.example">',
    '<img src=http://a.example>', '<style>', '<p "broken>', "<img srcset='//a.example/a 2x'>",
  ];
  for (const it of bad) faults.check(faultsOf(frame(it)).length > 0, `this is not found in HTML: ${it}`);
  for (const it of ['<a href="/a?b=c">', '&#60;svg onload=x&#62;', '<input value="http://a" required>']) {
    faults.check(faultsOf(frame(it)).length === 0, `this is no fault in HTML: ${it}: ${faultsOf(frame(it))}`);
  }
  faults.check(faultsOf(frame('<script src="/a" defer></script>'), { script: true }).length === 0, 'a script of the service is a fault');
}
