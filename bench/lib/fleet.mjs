/**
 * Simulated supervisors that beat once a second each, spread evenly, through the product's own writer. Only the
 * transport is cheaper: beats of one tick go out in one write, and replies are counted, not parsed.
 *
 * usage (forked): fleet.mjs REDIS_URL PREFIX FROM COUNT; orders: 'pause', 'resume', 'beats' → number of beats answered
 */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { Redis } from 'ioredis'
import { redisBeatWriter } from '../../dist/heartbeat/redis-heartbeats.js'
import { FLEET_QUEUE, healthyBeat, TIMEOUT_MS } from './beats.mjs'

const [url, prefix, fromText, countText] = process.argv.slice(2)
const from = Number(fromText)
const count = Number(countText)
const TICK_MS = 10
const PERIOD_MS = 1000
/** `*2`, the verdict and the store's time: what an accepted beat answers. */
const REPLY_BYTES = '*2\r\n:1\r\n:1700000000000\r\n'.length

const real = new Redis(url)
const { hostname, port } = new URL(url)
const socket = connect(Number(port), hostname)
let answeredBytes = 0
socket.on('data', (chunk) => {
  answeredBytes += chunk.length
  if (chunk.includes('-')) throw new Error(`fleet: ${chunk.toString().slice(0, 200)}`)
})

let batch = ''
const accepted = Promise.resolve([1, 0])
const piped = {
  evalsha(...args) {
    batch += `*${args.length + 1}\r\n$7\r\nevalsha\r\n`
    for (const arg of args) {
      const text = String(arg)
      batch += `$${text.length}\r\n${text}\r\n`
    }
    return accepted
  },
}
let transport = real
const redis = {
  evalsha: (...args) => transport.evalsha(...args),
  eval: (...args) => real.eval(...args),
  sadd: (...args) => real.sadd(...args),
}

function member(number) {
  const supervisor = `sim-${String(number).padStart(5, '0')}`
  const incarnation = randomBytes(6).toString('hex')
  const common = { supervisor, incarnation, prefix, host: 'bench', pid: 1, timeoutMs: TIMEOUT_MS }
  const writer = redisBeatWriter(redis, { ...common, queues: [FLEET_QUEUE] })
  let seq = 0
  const beat = () => {
    seq += 1
    return writer.beat(healthyBeat({ supervisor, incarnation, seq, uptimeMs: seq * PERIOD_MS }), false, false)
  }
  return { register: () => writer.register(), beat }
}

const members = Array.from({ length: count }, (_, index) => member(from + index))
for (let at = 0; at < count; at += 500) await Promise.all(members.slice(at, at + 500).map((one) => one.register()))
await members[0].beat()
transport = piped

let paused = false
let next = 0
let due = 0
let last = performance.now()
setInterval(() => {
  const now = performance.now()
  due += (count * (now - last)) / PERIOD_MS
  last = now
  if (paused) due = 0
  for (; due >= 1; due -= 1) {
    void members[next].beat()
    next = (next + 1) % count
  }
  if (batch !== '') socket.write(batch, 'latin1')
  batch = ''
}, TICK_MS)

process.on('message', (order) => {
  if (order !== 'beats') paused = order === 'pause'
  process.send(order === 'beats' ? Math.round(answeredBytes / REPLY_BYTES) : order)
})
process.on('disconnect', () => process.exit())
process.send('ready')
