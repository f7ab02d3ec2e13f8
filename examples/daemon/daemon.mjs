/** A daemon that polls for orders and dispatches them. It hangs in its fourth cycle, and says nothing of it itself. */
import { createServer } from 'node:http'
import { watchLoop } from 'unstuck/watch'

// The warehouse answers, until a request hangs for 20 s: no timeout ends it, no error tells of it.
let asked = 0
const warehouse = createServer((_request, response) => {
  asked += 1
  setTimeout(() => response.end('[]'), asked === 4 ? 20_000 : 0)
})
await new Promise((listening) => warehouse.listen(0, '127.0.0.1', listening))
const url = `http://127.0.0.1:${warehouse.address().port}`

async function dispatch(phase) {
  phase('ask the warehouse')
  const orders = await fetch(url).then((response) => response.json())
  phase('dispatch the orders')
  for (const order of orders) console.log(`dispatched ${order}`)
}

const INTERVAL_MS = 1000
// Stuck after 5 s, so that trouble shows at once. By itself it is a minute, or ten intervals.
const loop = watchLoop('dispatch', { intervalMs: INTERVAL_MS, staleAfterMs: 5000, name: 'daemon' })

// One cycle at a time: `cycle` skips the tick while another is in flight, and counts it.
const timer = setInterval(() => {
  loop.cycle(dispatch).catch((error) => console.log(`failed: ${error.message}`))
}, INTERVAL_MS)

process.once('SIGINT', close).once('SIGTERM', close)

async function close() {
  clearInterval(timer)
  warehouse.closeAllConnections()
  warehouse.close()
  // The last one says goodbye to the watchdogs.
  await loop.unwatch()
}
