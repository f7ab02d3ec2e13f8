/**
 * `npm run bench [-- --quick] [-- --save] [-- --only NAME,NAME]`: measures and prints one table.
 *
 * --quick  few repetitions, under two minutes: shows that it runs, not how fast it is
 * --save   also writes bench/results/latest.json and the table in docs/performance.md
 * --only   of: throughput, supervision, attempts, watch, recovery, sessions, dumps, memory, http, scrape, fleet-2, fleet-10000
 *
 * It brings its own Redis and ends everything that it started, on Ctrl-C too.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { detection } from './detection.mjs'
import { dumps } from './dumps.mjs'
import { httpLoad } from './http-load.mjs'
import { end, endAll, forkModule, started, startRedis } from './lib/processes.mjs'
import {
  attemptsRows,
  detectionRows,
  dumpsRows,
  httpRows,
  LARGE_FLEET,
  memoryRows,
  recoveryRows,
  scrapeRows,
  sessionsRows,
  supervisionRows,
  throughputRows,
  watchdogRows,
  watchRows,
} from './lib/rows.mjs'
import { markdownTable, textTable } from './lib/table.mjs'
import { supervisorMemory } from './memory.mjs'
import { recovery } from './recovery.mjs'
import { scrape } from './scrape.mjs'
import { sessions } from './sessions.mjs'
import { ledgerCost, supervisionCost, throughput, watchCost } from './throughput.mjs'
import { watchdogCost } from './watchdog-cost.mjs'

const { values: flags } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, save: { type: 'boolean', default: false }, only: { type: 'string' } },
})
const API_LOAD = { listeners: 200, readsPerSecond: 1000 }
const SIZES = flags.quick
  ? {
      many: { count: 2, jobs: 4000 },
      few: { count: 2, jobs: 1000 },
      supervision: { processPairs: 1, pairs: 4, jobs: 4000 },
      attempts: { processPairs: 1, pairs: 4, jobs: 4000 },
      watch: { processPairs: 1, pairs: 4, jobs: 4000, calls: { pairs: 5, jobs: 100_000 } },
      recovery: { jobs: 10_000, perSecond: 2000, cycles: 3 },
      sessions: {
        batch: { sessions: 100, concurrencies: [4, 16], rounds: 1 },
        launches: 40,
        live: { sessions: 50, windows: 1, windowMs: 5000 },
      },
      dumps: { threads: [2], requests: 5, cost: { inFlight: 100, processes: 1, rounds: 2, jobs: 3000 } },
      http: { ...API_LOAD, warmUp: { ms: 6000, ill: 2 }, windows: 1, window: { ms: 8000, ill: 3 } },
      scrape: { supervisors: 1000, scrapes: 40, everyMs: 100 },
      cost: { cpuMs: 4000, windows: 1 },
      detection: { repetitions: 2, windowMs: 2000 },
    }
  : {
      many: { count: 5, jobs: 15_000 },
      few: { count: 5, jobs: 6000 },
      supervision: { processPairs: 4, pairs: 5, jobs: 8000 },
      attempts: { processPairs: 4, pairs: 5, jobs: 8000 },
      // Each round changes what is called, which V8 compiles anew: of a short one that is a part.
      watch: { processPairs: 2, pairs: 5, jobs: 40_000, calls: { pairs: 15, jobs: 200_000 } },
      recovery: { jobs: 100_000, perSecond: 5000, cycles: 20 },
      sessions: {
        batch: { sessions: 100, concurrencies: [4, 16], rounds: 7 },
        launches: 300,
        live: { sessions: 200, windows: 3, windowMs: 20_000 },
      },
      dumps: { threads: [2, 32], requests: 100, cost: { inFlight: 100, processes: 6, rounds: 5, jobs: 8000 } },
      http: { ...API_LOAD, warmUp: { ms: 20_000, ill: 36 }, windows: 2, window: { ms: 30_000, ill: 8 } },
      scrape: { supervisors: 1000, scrapes: 200, everyMs: 100 },
      cost: { cpuMs: 10_000, windows: 4 },
      detection: { repetitions: 40, windowMs: 40_000 },
    }

const sections = {
  async throughput(url) {
    const many = await throughput({ url, variants: ['raw', 'piscina', 'unstuck'], inFlight: 100, ...SIZES.many })
    // Raw and plain piscina show what is left to reach: no isolation, and isolation by a thread alone.
    const variants = ['raw', 'piscina', 'sandbox-threads', 'sandbox-processes', 'unstuck']
    const few = await throughput({ url, variants, inFlight: 2, ...SIZES.few })
    return { result: { many, few }, rows: throughputRows({ many, few }) }
  },
  async supervision(url) {
    const result = await supervisionCost({ url, inFlight: 100, ...SIZES.supervision })
    return { result, rows: supervisionRows(result) }
  },
  async attempts(url) {
    const result = await ledgerCost({ url, inFlight: 100, ...SIZES.attempts })
    return { result, rows: attemptsRows(result) }
  },
  async watch(url) {
    const options = { url, inFlight: 100, ...SIZES.watch }
    const plain = await watchCost({ ...options, steps: false })
    const steps = await watchCost({ ...options, steps: true })
    return { result: { plain, steps }, rows: watchRows({ plain, steps }) }
  },
  async recovery(url) {
    const result = await recovery({ url, ...SIZES.recovery })
    return { result, rows: recoveryRows(result) }
  },
  async sessions(url) {
    const result = await sessions({ url, ...SIZES.sessions })
    return { result, rows: sessionsRows(result) }
  },
  async dumps(url) {
    const result = await dumps({ url, ...SIZES.dumps })
    return { result, rows: dumpsRows(result) }
  },
  async memory(url) {
    const result = await supervisorMemory({ url, inFlight: 100 })
    return { result, rows: memoryRows(result) }
  },
  async http(url) {
    const result = await httpLoad({ url, ...SIZES.http })
    return { result, rows: httpRows(result) }
  },
  async scrape(url) {
    const result = await scrape({ url, ...SIZES.scrape })
    return { result, rows: scrapeRows(result) }
  },
  'fleet-2': (url) => fleetSection(url, 2),
  'fleet-10000': (url) => fleetSection(url, LARGE_FLEET),
}

async function fleetSection(url, size) {
  const fleet = await startFleet(url, size)
  const cost = size === LARGE_FLEET ? await watchdogCost({ url, fleet, ...SIZES.cost }) : undefined
  const found = await detection({ url, ...SIZES.detection })
  for (const one of fleet) await end(one)
  found.falseAlarms.push(...(cost?.falseAlarms ?? []))
  return { result: { cost, found }, rows: [...(cost ? watchdogRows(size, cost) : []), ...detectionRows(size, found)] }
}

const BEATERS = 2

async function startFleet(url, size) {
  const each = size / BEATERS
  const fleet = Array.from({ length: BEATERS }, (_, index) =>
    forkModule('./fleet.mjs', [url, '{unstuck}', String(index * each), String(each)]),
  )
  return Promise.all(fleet.map(started))
}

async function main() {
  const chosen = flags.only?.split(',') ?? Object.keys(sections)
  const unknown = chosen.find((name) => !(name in sections))
  if (unknown !== undefined) throw new Error(`--only: "${unknown}" is none of ${Object.keys(sections).join(', ')}`)
  if (flags.save && (flags.quick || flags.only))
    throw new Error('--save: only a full run is saved; leave out --quick and --only')
  const machine = `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown CPU'}, Node ${process.versions.node}, Linux load ${loadavg()[0].toFixed(1)} at the start`
  const rows = []
  const results = {}
  for (const name of chosen) {
    const began = performance.now()
    // Each section gets a store of its own: what one leaves behind costs the next nothing.
    const section = await sections[name](await startRedis())
    rows.push(...section.rows)
    results[name] = section.result
    process.stderr.write(`${name}: ${Math.round((performance.now() - began) / 1000)} s\n`)
  }
  console.log(`\n${machine}\n\n${textTable(rows)}\n`)
  if (flags.save) save(machine, rows, results)
}

function save(machine, rows, results) {
  const here = (path) => new URL(path, import.meta.url)
  mkdirSync(here('./results'), { recursive: true })
  const saved = { at: new Date().toISOString(), machine, rows, results }
  writeFileSync(here('./results/latest.json'), `${JSON.stringify(saved, undefined, 1)}\n`)
  const page = here('../docs/performance.md')
  const [before, rest] = readFileSync(page, 'utf8').split('<!-- bench -->\n')
  const after = rest?.split('<!-- /bench -->\n')[1]
  if (after === undefined)
    throw new Error('docs/performance.md: the marks <!-- bench --> and <!-- /bench --> are gone; put them back')
  const table = `${saved.at.slice(0, 10)}, ${machine}.\n\n${markdownTable(rows)}\n`
  writeFileSync(page, `${before}<!-- bench -->\n${table}<!-- /bench -->\n${after}`)
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    endAll()
    process.exit(130)
  })
}
process.on('exit', endAll)
try {
  await main()
  process.exit()
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`)
  process.exit(2)
}
