/** What the demo profile runs: a stream of small jobs, and once a minute one that hangs for a while. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Dispatcher } from 'unstuck'

const EVERY_MS = 2000
const JOBS = 20
const TURNS_BETWEEN_SABOTEURS = 30
const SABOTAGE_MS = 25_000
const SABOTEURS = ['lost-reply', 'endless-loop']
/** Touched after each turn, for the health check. */
const FED_FILE = join(tmpdir(), 'fed')

const ended = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => ended.abort())

const dispatcher = await Dispatcher.connect()
for (let turn = 0; !ended.signal.aborted; turn += 1) {
  try {
    await feed(turn)
    writeFileSync(FED_FILE, '')
  } catch (error) {
    console.error(`demo: ${error instanceof Error ? error.message : error}`)
  }
  await sleep(EVERY_MS, undefined, { signal: ended.signal }).catch(() => undefined)
}
await dispatcher.close()

async function feed(turn) {
  const jobs = Array.from({ length: JOBS }, () => ({ data: { text: randomBytes(256).toString('hex') } }))
  await dispatcher.addBulk('checksums', jobs)
  if (turn % TURNS_BETWEEN_SABOTEURS !== 0) return
  const name = SABOTEURS[(turn / TURNS_BETWEEN_SABOTEURS) % SABOTEURS.length]
  await dispatcher.add('saboteurs', { ms: SABOTAGE_MS }, { name })
}
