/** What is shown is in the address, behind the #: it can be shared, and the server never sees job ids in it. */
import { useEffect, useState } from './vendor.js'

/** Everything the address can hold; `job` is `QUEUE/ID` with both parts encoded. */
const KEYS = ['view', 'queue', 'status', 'job', 'incident', 'supervisor', 'find']
/** What lies beside the view; one at a time. */
const DRAWERS = ['job', 'incident', 'supervisor', 'find']

export function parseHash(hash) {
  const params = new URLSearchParams(hash.replace(/^#/, ''))
  return Object.fromEntries(KEYS.flatMap((key) => (params.get(key) ? [[key, params.get(key)]] : [])))
}

export function hashOf(place) {
  const params = new URLSearchParams(KEYS.flatMap((key) => (place[key] ? [[key, place[key]]] : [])))
  return `#${params}`
}

const here = () => parseHash(location.hash)

/** The address of another view: the drawer goes with the view it belonged to. */
export const viewHash = (place) => hashOf(place)

/** The address that opens a drawer over what is shown now. */
export function drawerHash(key, value) {
  const rest = Object.fromEntries(Object.entries(here()).filter(([name]) => !DRAWERS.includes(name)))
  return hashOf({ ...rest, [key]: value })
}

export const jobKey = (queue, id) => `${encodeURIComponent(queue)}/${encodeURIComponent(id)}`

export function jobOfKey(key) {
  const [queue = '', id = ''] = key.split('/')
  try {
    return { queue: decodeURIComponent(queue), id: decodeURIComponent(id) }
  } catch {
    return { queue, id }
  }
}

export function go(hash) {
  location.hash = hash
}

export function closeDrawer() {
  const rest = Object.fromEntries(Object.entries(here()).filter(([name]) => !DRAWERS.includes(name)))
  go(hashOf(rest))
}

export function usePlace() {
  const [place, setPlace] = useState(here)
  useEffect(() => {
    const onChange = () => setPlace(here())
    addEventListener('hashchange', onChange)
    return () => removeEventListener('hashchange', onChange)
  }, [])
  return place
}
