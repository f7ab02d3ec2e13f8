/** The banner on the page. What it says is decided in `banner.js`. */
import { serverNow } from './api.js'
import { bannerOf, keptDismissals } from './banner.js'
import { useLive, useNow } from './live.js'
import { counted } from './text.js'
import { drawerHash, viewHash } from './url.js'
import { html, useEffect, useState } from './vendor.js'

const KEY = 'unstuck.dismissed'
/** The words change with the minute; a second's delay is seen by nobody. */
const EVERY_MS = 5000
const SHAPES = { wedged: '■', stuck: '▲', unknown: '?' }

/** A browser may refuse to keep anything; then dismissals hold until the page is loaded again. */
function kept() {
  try {
    return new Set(JSON.parse(localStorage.getItem(KEY) ?? '[]'))
  } catch {
    return new Set()
  }
}

function keep(ids) {
  try {
    localStorage.setItem(KEY, JSON.stringify([...ids]))
  } catch {
    // See kept().
  }
}

export function Banner() {
  useNow(EVERY_MS)
  const loaded = useLive((state) => state.loaded)
  const health = useLive((state) => state.health)
  const [dismissed, setDismissed] = useState(kept)
  useEffect(() => keep(dismissed), [dismissed])
  useEffect(() => {
    if (!health || health.status === 'unknown') return
    setDismissed((ids) => (ids.size === 0 ? ids : keptDismissals(ids, health)))
  }, [health])
  const banner = loaded ? bannerOf(health, { dismissed, nowMs: serverNow() }) : undefined
  if (!banner) return html`<div class="banner-place"></div>`
  const { level, label, text, hint, incident, more, doubt } = banner
  return html`<div class="banner-place"><div class="banner ${level}" role="alert" key=${incident?.incidentId ?? level}>
    <span class="shape" aria-hidden="true">${SHAPES[level]}</span>
    <div class="banner-text">
      <p><strong>${label}:</strong> ${text}</p>
      <p class="hint">${hint}</p>
      ${doubt && html`<p class="hint"><strong>Status unknown:</strong> this may be out of date, since ${doubt}.</p>`}
      ${incident && html`<p class="banner-links"><a href=${drawerHash('incident', incident.incidentId)}>See this incident</a>${more > 0 && html` · <a href=${viewHash({ view: 'incidents' })}>and ${counted(more, 'other')}</a>`}</p>`}
    </div>
    ${incident && html`<button class="quiet" onClick=${() => setDismissed((ids) => new Set([...ids, incident.incidentId]))} aria-label="Dismiss this incident">Dismiss</button>`}
  </div></div>`
}
