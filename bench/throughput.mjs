/** No-op jobs a second and CPU per job: every peer in the same run, one round each in turn, the order rotated. */
import { Queue } from 'bullmq'
import { ask, end, forkModule, started } from './lib/processes.mjs'
import { median, quantile } from './lib/stats.mjs'

/** As the product's own enqueue writes them, for every peer alike. */
const OPTIONS = { attempts: 8, backoff: { type: 'unstuck' }, removeOnComplete: { age: 86_400, count: 10_000 } }
const BULK = 1000

/** A process that works off one queue, and the fill of that queue. */
async function startPeer(url, variant, inFlight, number, build) {
  const name = `${variant}-${inFlight}-${number}`
  const queue = new Queue(name, { connection: { url, maxRetriesPerRequest: null } })
  await queue.pause()
  const own = build === undefined ? [] : ['./noop-handler.mjs', build]
  const child = await started(forkModule('./variants.mjs', [build ? 'unstuck' : variant, url, name, String(inFlight), ...own]))
  return {
    variant,
    async round(jobs, more = {}) {
      await queue.pause()
      for (let at = 0; at < jobs; at += BULK) {
        const size = Math.min(BULK, jobs - at)
        await queue.addBulk(
          Array.from({ length: size }, (_, index) => ({ name: 'noop', data: { n: at + index }, opts: OPTIONS })),
        )
      }
      return ask(child, { jobs, ...more })
    },
    async stop() {
      await end(child)
      await queue.close()
    },
  }
}

async function rounds(peers, count, jobs, onRound) {
  for (const peer of peers) await peer.round(jobs)
  for (let round = 0; round < count; round += 1) {
    const results = []
    for (let turn = 0; turn < peers.length; turn += 1) {
      const peer = peers[(round + turn) % peers.length]
      results.push({ variant: peer.variant, ...(await peer.round(jobs)) })
    }
    onRound(results)
  }
}

/** @returns {Promise<Record<string, {jobsPerSecond: number, cpuMicros: number, rounds: object[]}>>} medians by variant */
export async function throughput({ url, variants, inFlight, count, jobs }) {
  const peers = []
  for (const variant of variants) peers.push(await startPeer(url, variant, inFlight, 0))
  const seen = Object.fromEntries(variants.map((variant) => [variant, []]))
  await rounds(peers, count, jobs, (results) => {
    for (const { variant, ...measures } of results) seen[variant].push(measures)
  })
  for (const peer of peers) await peer.stop()
  return Object.fromEntries(
    Object.entries(seen).map(([variant, runs]) => [
      variant,
      {
        jobsPerSecond: median(runs.map((run) => run.jobsPerSecond)),
        cpuMicros: median(runs.map((run) => run.cpuMicros)),
        rounds: runs,
      },
    ]),
  )
}

/**
 * What supervision costs: pairs of neighbouring rounds, one with and one without, the order alternated; over several
 * process pairs, since two processes of the same code differ in how they were compiled.
 */
export async function supervisionCost({ url, inFlight, processPairs, pairs, jobs }) {
  const ratios = []
  const costs = []
  for (let number = 1; number <= processPairs; number += 1) {
    const order = number % 2 === 0 ? ['bare', 'unstuck'] : ['unstuck', 'bare']
    const peers = []
    for (const variant of order) peers.push(await startPeer(url, variant, inFlight, number))
    await rounds(peers, pairs, jobs, (results) => {
      const cpu = Object.fromEntries(results.map(({ variant, cpuMicros }) => [variant, cpuMicros]))
      ratios.push(cpu.unstuck / cpu.bare)
      costs.push(cpu)
    })
    for (const peer of peers) await peer.stop()
  }
  return {
    ...quartilesOf(ratios),
    bareMicros: median(costs.map(({ bare }) => bare)),
    unstuckMicros: median(costs.map(({ unstuck }) => unstuck)),
  }
}

/** What the ledger costs a job that succeeds: asked and told, or not. */
export const ledgerCost = (options) => switchCost({ ...options, variant: 'ledger', option: 'ledger' })

/**
 * What it costs a job of a plain BullMQ worker that the worker is watched: seen at the whole process, where it drowns in what
 * the rest of a job varies by, and as the calls that are put around a job.
 * @param steps whether jobs can be found, as `unstuck/handler` has it
 */
export async function watchCost({ steps, calls, ...options }) {
  const whole = await switchCost({ ...options, variant: steps ? 'watched-steps' : 'watched', option: 'watched' })
  return { whole, added: await watchCalls({ url: options.url, steps, ...calls }) }
}

async function watchCalls({ url, steps, pairs, jobs }) {
  const child = await started(forkModule('./watch-calls.mjs', [url, steps ? 'steps' : '']))
  const added = []
  // The first compiles.
  for (let pair = 0; pair <= pairs; pair += 1) {
    const micros = await ask(child, { jobs })
    if (pair > 0) added.push(micros.with - micros.without)
  }
  await end(child)
  return { micros: median(added), low: quantile(added, 0.25), high: quantile(added, 0.75), pairs }
}

/** Neighbouring rounds of one process, with and without, the order alternated; over several processes. */
async function switchCost({ url, inFlight, processPairs, pairs, jobs, variant: of, option }) {
  const ratios = []
  const costs = []
  for (let number = 1; number <= processPairs; number += 1) {
    const peer = await startPeer(url, of, inFlight, number)
    const sides = ['without', 'with'].map((variant) => ({
      variant,
      round: (count) => peer.round(count, { [option]: variant === 'with' }),
    }))
    await rounds(sides, pairs, jobs, (results) => {
      const cpu = Object.fromEntries(results.map(({ variant, cpuMicros }) => [variant, cpuMicros]))
      ratios.push(cpu.with / cpu.without)
      costs.push(cpu)
    })
    await peer.stop()
  }
  return {
    ...quartilesOf(ratios),
    withoutMicros: median(costs.map((cpu) => cpu.without)),
    withMicros: median(costs.map((cpu) => cpu.with)),
  }
}

/**
 * What the lines cost in which two builds differ: a process of each in neighbouring rounds, the order rotated; over
 * several processes, since two of the same code differ in how they were compiled. A third is a copy of the first: what
 * differs between those two is what this machine cannot tell.
 * @param builds addresses: `with` those lines, the `same` again, and `without`
 */
export async function buildCost({ url, builds, inFlight, processes, rounds: count, jobs }) {
  const seen = []
  const names = Object.keys(builds)
  for (let number = 0; number < processes; number += 1) {
    const peers = []
    for (let turn = 0; turn < names.length; turn += 1) {
      const name = names[(number + turn) % names.length]
      peers.push(await startPeer(url, name, inFlight, number, builds[name]))
    }
    await rounds(peers, count, jobs, (results) =>
      seen.push(Object.fromEntries(results.map(({ variant, ...measures }) => [variant, measures]))),
    )
    for (const peer of peers) await peer.stop()
  }
  const compared = (one, other, measure) => quartilesOf(seen.map((round) => round[one][measure] / round[other][measure]))
  const sides = (one, other) => ({
    throughput: compared(one, other, 'jobsPerSecond'),
    cpu: compared(one, other, 'cpuMicros'),
  })
  const medianOf = (name) => median(seen.map((round) => round[name].jobsPerSecond))
  return {
    cost: sides('with', 'without'),
    noise: sides('same', 'with'),
    jobsPerSecond: { with: medianOf('with'), without: medianOf('without') },
  }
}

const quartilesOf = (ratios) => ({
  ratio: median(ratios),
  low: quantile(ratios, 0.25),
  high: quantile(ratios, 0.75),
  pairs: ratios.length,
  ratios,
})
