/**
 * The login page: plain HTML that works without JavaScript. Pure.
 *
 * What a shared link names stands behind its `#`, which no server sees: the browser carries it over every redirect that
 * names none. So the form is sent to the address of the page itself, which still has it, and the page that loads itself
 * once more takes it along by script; without one, only the view is lost.
 */

export interface LoginPage {
  /** Where it leads. */
  readonly next: string
  /** What went wrong. */
  readonly problem?: string
  /** Loads itself once more, see `login.ts`. */
  readonly again?: string
}

export function loginPage({ next, problem, again }: LoginPage): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
${again === undefined ? '' : onceMore(escapeHtml(again))}<title>Log in · unstuck</title>
<link rel="stylesheet" href="/login.css">
<link rel="icon" href="data:,">
</head>
<body>
<main>
<h1>unstuck</h1>
${problem === undefined ? '' : `<p class="problem" role="alert" id="problem">${escapeHtml(problem)}</p>\n`}<form method="post">
<input type="text" name="username" autocomplete="username" value="unstuck" hidden>
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus${problem === undefined ? '' : ' aria-invalid="true" aria-describedby="problem"'}>
<input type="hidden" name="next" value="${escapeHtml(next)}">
<button type="submit">Log in</button>
<p class="hint">The value of http.token; with http.readToken you may look and change nothing.</p>
</form>
</main>
</body>
</html>
`
}

function onceMore(again: string): string {
  return `<script src="/login.js" data-again="${again}"></script>
<noscript><meta http-equiv="refresh" content="0;url=${again}"></noscript>
`
}

export const LOGIN_SCRIPT = 'location.replace(document.currentScript.dataset.again + location.hash)\n'

function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}

export const LOGIN_STYLE = `:root{color-scheme:light dark;--line:#767676;--deed:#0b5cad;--on-deed:#fff;--problem:#b00020}
@media (prefers-color-scheme:dark){:root{--line:#8a8a8a;--deed:#7db7f5;--on-deed:#08121d;--problem:#ff8a96}}
body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh}
main{box-sizing:border-box;width:min(24rem,100vw);padding:1rem}
h1{font-size:1.3rem;margin:0 0 1rem}
form{display:grid;gap:.6rem}
label{font-weight:600}
input,button{box-sizing:border-box;width:100%;font:inherit;padding:.6rem .7rem;border-radius:.4rem;border:1px solid var(--line)}
button{background:var(--deed);border-color:var(--deed);color:var(--on-deed);font-weight:600;cursor:pointer}
:focus-visible{outline:3px solid var(--deed);outline-offset:2px}
.problem{color:var(--problem);font-weight:600;margin:0 0 .8rem}
.hint{font-size:.9rem;margin:.2rem 0 0}
`
