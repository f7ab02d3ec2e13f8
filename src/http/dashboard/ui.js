/** Small parts that several views share. */
import { closeDrawer } from './url.js'
import { Component, html, useEffect, useRef, useState } from './vendor.js'

/** A state as text with a shape: never by colour alone. */
export function Badge({ tone = 'plain', children }) {
  return html`<span class="badge ${tone}">${children}</span>`
}

export const SUPERVISOR_TONES = {
  running: 'good',
  starting: 'plain',
  draining: 'amber',
  stopped: 'plain',
  dead: 'red',
  unreadable: 'red',
}

export const STATUS_TONES = {
  running: 'good',
  launching: 'good',
  completed: 'plain',
  waiting: 'plain',
  scheduled: 'plain',
  'backing-off': 'amber',
  exhausted: 'red',
  failed: 'red',
  cancelled: 'plain',
}

/** Does one thing at a time, and keeps what went wrong for beside the button. */
export function useAction() {
  const [state, setState] = useState({ pending: false, error: undefined })
  const run = async (act) => {
    setState({ pending: true, error: undefined })
    try {
      const result = await act()
      setState({ pending: false, error: undefined })
      return result
    } catch (error) {
      setState({ pending: false, error: error instanceof Error ? error.message : String(error) })
      return undefined
    }
  }
  return { ...state, run }
}

export function Problem({ error }) {
  return error ? html`<p class="problem" role="alert"><strong>Not done:</strong> ${error}</p>` : null
}

/** A definition list that leaves out what is not known. */
export function Facts({ of }) {
  const known = of.filter(([, value]) => value !== undefined && value !== null && value !== '')
  return html`<dl class="facts">${known.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`
}

/** What gives the focus back to what had it when this was drawn first: before anything drawn later could take it away. */
function useFocusBack() {
  const opener = useRef(document.activeElement)
  return () => {
    const { current } = opener
    if (current instanceof HTMLElement && current.isConnected) current.focus()
  }
}

/** Beside the page, not over it: what is behind it goes on and can be used. Escape closes it and gives the focus back. */
export function Drawer({ title, badge, label, children }) {
  const heading = useRef(null)
  const giveFocusBack = useFocusBack()
  useEffect(() => {
    heading.current?.focus()
    const onKey = (event) => {
      if (event.key === 'Escape' && !document.querySelector('dialog[open]')) closeDrawer()
    }
    addEventListener('keydown', onKey)
    return () => {
      removeEventListener('keydown', onKey)
      giveFocusBack()
    }
  }, [])
  return html`<div class="drawer" role="dialog" aria-labelledby="drawer-title">
    <div class="drawer-head">
      <p class="eyebrow">${label}</p>
      <button class="quiet close" onClick=${closeDrawer} aria-label="Close">✕</button>
      <h2 id="drawer-title" tabindex="-1" ref=${heading}>${title}</h2>
      ${badge}
    </div>
    <div class="drawer-body">${children}</div>
  </div>`
}

/** Asks before it acts. `children` says what will happen. */
export function Confirm({ title, verb, tone = 'primary', pending, error, onConfirm, onClose, children }) {
  const dialog = useRef(null)
  const giveFocusBack = useFocusBack()
  useEffect(() => {
    const shown = dialog.current
    shown?.showModal()
    return () => {
      // While it is open nothing beside it takes the focus.
      shown?.close()
      giveFocusBack()
    }
  }, [])
  // A browser may close it without asking: then it closes here too, or it could not be opened again.
  const onCancel = (event) => {
    event.preventDefault()
    onClose()
  }
  return html`<dialog ref=${dialog} aria-labelledby="confirm-title" onCancel=${onCancel} onClose=${onClose}>
    <h2 id="confirm-title">${title}</h2>
    ${children}
    <${Problem} error=${error} />
    <p class="buttons">
      <button onClick=${onClose}>Leave it</button>
      ${verb && html`<button class=${tone} disabled=${pending} onClick=${onConfirm}>${pending ? 'Working…' : verb}</button>`}
    </p>
  </dialog>`
}

/** Drawn again only when one of its properties is another value. */
export function memo(draw) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const names = new Set([...Object.keys(this.props), ...Object.keys(next)])
      return [...names].some((name) => name !== 'children' && this.props[name] !== next[name])
    }
    render() {
      return draw(this.props)
    }
  }
}
