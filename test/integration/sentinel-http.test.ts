/** The HTTP server in the sentinel thread, in a real process on a real Redis. Needs `dist/`. */
import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { connectRedis } from '../../src/platform/redis.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { until } from '../support/processes.js'
import { startTestRedis } from '../support/redis.js'

const FIXTURE = fileURLToPath(new URL('../fixtures/sentinel-process.mjs', import.meta.url))
const TIMES = { intervalMs: 200, timeoutMs: 1500, loopBlockedMs: 500 }
const LIMIT_MS = 30_000

type Said = { readonly event: string; readonly [field: string]: unknown }

function launch(options: object) {
  const child = spawn(process.execPath, [FIXTURE, JSON.stringify({ ...options, ...TIMES })], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const said: Said[] = []
  createInterface({ input: child.stdout }).on('line', (line) => said.push(JSON.parse(line) as Said))
  const heard = async (fits: (one: Said) => boolean): Promise<Said> => {
    const found = await until(
      async () => said.find(fits),
      (one) => one !== undefined,
      LIMIT_MS,
    )
    return found ?? { event: '' }
  }
  return { exited, heard, do: (command: string) => child.stdin.write(`${command}\n`) }
}

async function setup() {
  const redis = await startTestRedis()
  onTestFinished(() => redis.stop())
  const start = (supervisor: string, port = 0) =>
    launch({ redisUrl: redis.url, supervisor, incarnation: `${supervisor}-1`, port })
  const one = start('s1')
  const port = Number((await one.heard(({ event }) => event === 'ready'))['port'])
  const client = connectRedis(redis.url, 'command')
  onTestFinished(() => client.disconnect())
  /** The number of the last beat that the store took. */
  const beats = async () => (await readBeats(client, fleetKeys('{unstuck}'), ['s1']))[0]?.beat?.seq ?? 0
  const trouble = (text: string) => one.heard(({ event, message }) => event === 'error' && String(message).includes(text))
  return { start, one, port, beats, trouble, ...askAt(port) }
}

function askAt(port: number) {
  const get = (path: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${port}${path}`, { ...init, signal: AbortSignal.timeout(10_000) })
  /** Its status; undefined when nobody listens. */
  const statusOf = async (path: string) => (await get(path).catch(() => undefined))?.status
  const status = (path: string, wanted: number) =>
    until(
      () => statusOf(path),
      (seen) => seen === wanted,
      LIMIT_MS,
    )
  const metrics = async () => (await get('/metrics')).text()
  return { get, statusOf, status, metrics }
}

/** @returns the value of a series; NaN when there is none */
function seriesIn(text: string, series: string): number {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1) ?? Number.NaN)
}

describe('the HTTP server of the sentinel thread', () => {
  it('tells live, ready and the metrics of both threads, and refuses all else', async () => {
    const { get, metrics } = await setup()
    expect(await (await get('/livez')).json()).toEqual({ status: 'ok' })
    expect(await (await get('/readyz?x=1')).json()).toEqual({ status: 'ok' })
    expect((await get('/livez', { method: 'HEAD' })).status).toBe(200)
    const text = await metrics()
    expect(seriesIn(text, 'asked_total')).toBe(1)
    expect(seriesIn(text, 'unstuck_supervisor_main_age_seconds')).toBeLessThan(10)
    expect(seriesIn(text, 'unstuck_supervisor_loop_age_seconds{loop="fetch",queue="mail"}')).toBe(0)
    expect((await get('/')).status).toBe(404)
    expect((await get('/livez', { method: 'POST', body: 'x' })).status).toBe(405)
  })

  it('E4 shows no name twice, and help and type of each', async () => {
    const { metrics } = await setup()
    const lines = (await metrics()).split('\n')
    const types = lines.filter((line) => line.startsWith('# TYPE ')).map((line) => line.split(' ')[2])
    expect(types).toEqual([...new Set(types)])
    const series = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split(' ')[0])
    expect(series).toEqual([...new Set(series)])
    for (const one of series) expect(types).toContain(one?.replace(/\{.*/, ''))
  })

  it('A8 goes on while the main thread is blocked: not live, with the reason, and the last metrics of that thread', async () => {
    const { one, get, status, metrics } = await setup()
    expect(seriesIn(await metrics(), 'asked_total')).toBe(1)
    one.do('block 6000')
    await status('/livez', 503)
    const { reason } = (await (await get('/livez')).json()) as { reason: string }
    expect(reason).toMatch(/^supervisor:s1\/main: loop_blocked for \d+ s$/)
    const text = await metrics()
    expect(seriesIn(text, 'asked_total')).toBe(1)
    expect(seriesIn(text, 'unstuck_supervisor_main_age_seconds')).toBeGreaterThan(0.5)
    expect(seriesIn(text, 'unstuck_supervisor_metrics_age_seconds')).toBeGreaterThan(0.2)
    await status('/livez', 200)
    // One question was out all the time, however often it was scraped meanwhile.
    const later = await until(metrics, (seen) => seriesIn(seen, 'asked_total') >= 3, LIMIT_MS)
    expect(seriesIn(later, 'unstuck_supervisor_metrics_age_seconds')).toBeLessThan(5)
  })

  it('is on the same port when another sentinel thread has taken the place of one that died', async () => {
    const { one, trouble, status, metrics } = await setup()
    one.do('crash')
    await trouble('started again')
    await status('/livez', 200)
    expect(seriesIn(await metrics(), 'asked_total')).toBeGreaterThan(0)
  })

  it('comes back when its port was taken in between, and the beats do not wait for that', async () => {
    const { one, port, status, statusOf, trouble, beats } = await setup()
    const squatter = createServer((_, response) => response.writeHead(418).end())
    onTestFinished(() => void squatter.close())
    const listens = () =>
      new Promise<boolean>((resolve) => {
        squatter.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
      })
    // On a busy machine the next thread may be there first: then once more.
    const squat = async () => {
      if ((await statusOf('/livez')) === 200) one.do('crash')
      return listens()
    }
    await until(squat, (taken) => taken, LIMIT_MS)
    await trouble(`supervisor.port ${port}`)
    const before = await beats()
    await until(beats, (seq) => seq > before + 2, LIMIT_MS)
    squatter.close()
    squatter.closeAllConnections()
    await status('/livez', 200)
  })

  it('E4 refuses a port that is in use, before it takes the name', async () => {
    const { start, port } = await setup()
    const second = start('s2', port)
    const refused = await second.heard(({ event }) => event === 'refused')
    expect(refused).toMatchObject({
      code: 'PORT_IN_USE',
      message: `supervisor.port ${port}: something else listens there; choose another, or 0 for any free one`,
    })
    expect(await second.exited).toBe(2)
  })
})
