/**
 * Incidents in Redis. Each change is one Lua call that compares, sets, numbers the transition, appends it to the stream
 * and puts it among the unsaid; the winner writes the line and takes it out. A watchdog that dies or is paused in
 * between loses it, after SAY_WITHIN_MS, to whoever claims it.
 *
 * The same calls count the deaths of a group, `died:GROUP`, and the last of them that is over, `back:GROUP`: so a restart
 * is counted once however many watchdogs see it. A registration ends a death too (`redis-heartbeats.ts`).
 */
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'
import { LUA_NOW, type RedisReply, redisScript } from '../platform/redis-script.js'
import {
  FLAPPING_OPENINGS,
  FLAPPING_WINDOW_MS,
  type Incident,
  type IncidentDraft,
  type Incidents,
  type Outcome,
  SAY_WITHIN_MS,
  type Transition,
} from './incident.js'

/** About how many transitions the stream keeps. */
const KEPT_TRANSITIONS = 10_000

/** Appends a transition: JSON texts are joined, never decoded and encoded again, since Lua would change numbers and lists. */
const LUA_EMIT = `
local said = {}
local function emit(seq, rest)
  local text = '{"seq":' .. seq .. ',"at":' .. now .. ',' .. rest .. '}'
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ${KEPT_TRANSITIONS}, '*', 'transition', text)
  redis.call('ZADD', KEYS[4], now + ${SAY_WITHIN_MS}, text)
  said[#said + 1] = text
end
`

// KEYS: open, sequence, transitions, unsaid, flapping of the subject, restarts. ARGV: subject, draft as JSON without its
// brace, asOf, id, 1 for a dead process, its group, for how long it has been silent (ms).
// The flapping hash holds the openings of the window by incident, and the number of the last closing.
const OPEN = redisScript(`${LUA_NOW}${LUA_EMIT}
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return said end
if tonumber(redis.call('HGET', KEYS[5], 'closed') or 0) > tonumber(ARGV[3]) then return said end
local openings = 1
local history = redis.call('HGETALL', KEYS[5])
for i = 1, #history, 2 do
  if history[i] ~= 'closed' then
    if tonumber(history[i + 1]) > now - ${FLAPPING_WINDOW_MS} then openings = openings + 1 else redis.call('HDEL', KEYS[5], history[i]) end
  end
end
redis.call('HSET', KEYS[5], ARGV[4], now)
redis.call('PEXPIRE', KEYS[5], ${FLAPPING_WINDOW_MS})
local held = openings > ${FLAPPING_OPENINGS}
local seq = redis.call('INCR', KEYS[2])
local incident = '{"seq":' .. seq .. ',"openedAtRedisMs":' .. now .. ',"lastAtRedisMs":' .. now ..
  ',"held":' .. tostring(held) .. ',"heldBack":0,' .. ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], incident)
if ARGV[5] == '1' then
  local died = redis.call('HINCRBY', KEYS[6], 'died:' .. ARGV[6], 1)
  -- Its successor, under another name, was there before anybody called it dead.
  local registered = tonumber(redis.call('HGET', KEYS[6], 'registered:' .. ARGV[6]) or 0)
  if registered > now - tonumber(ARGV[7]) then redis.call('HSET', KEYS[6], 'back:' .. ARGV[6], died) end
end
emit(seq, '"event":"stuck","incident":' .. incident)
if held then
  emit(redis.call('INCR', KEYS[2]), '"event":"flapping","openings":' .. openings .. ',"incident":' .. incident)
end
return said
`)

// KEYS: the same. ARGV: subject, incident id, outcome.
const CLOSE = redisScript(`${LUA_NOW}${LUA_EMIT}
local incident = redis.call('HGET', KEYS[1], ARGV[1])
if not incident then return said end
local open = cjson.decode(incident)
if open.incidentId ~= ARGV[2] then return said end
redis.call('HDEL', KEYS[1], ARGV[1])
local seq = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[5], 'closed', seq)
redis.call('PEXPIRE', KEYS[5], ${FLAPPING_WINDOW_MS})
if open.cause == 'process_dead' and (ARGV[3] == 'recovered' or ARGV[3] == 'replaced') then
  local group = open.group or ''
  local died = redis.call('HGET', KEYS[6], 'died:' .. group)
  if died then redis.call('HSET', KEYS[6], 'back:' .. group, died) end
end
local duration = string.format('%.0f', math.max(now - open.openedAtRedisMs, 0) + open.ageMs)
emit(seq, '"event":"resumed","outcome":"' .. ARGV[3] .. '","durationMs":' .. duration .. ',"incident":' .. incident)
return said
`)

const UPDATE = redisScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
`)

// ARGV: subject, incident id, what is to be written as JSON without its braces.
const NOTE = redisScript(`
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text or cjson.decode(text).incidentId ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], '{' .. ARGV[3] .. ',' .. string.sub(text, 2))
return 1
`)

const CLAIM = redisScript(`${LUA_NOW}
local overdue = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
for _, text in ipairs(overdue) do redis.call('ZADD', KEYS[1], 'XX', now + ${SAY_WITHIN_MS}, text) end
return overdue
`)

const RECORD = redisScript(`
for i = 1, #ARGV do
  local seq = redis.call('INCR', KEYS[1])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ${KEPT_TRANSITIONS}, '*', 'transition', '{"seq":' .. seq .. ',' .. ARGV[i])
end
return #ARGV
`)

// KEYS: open, sequence. ARGV: the highest number known, then subject and incident of each.
const RESTORE = redisScript(`
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[1]) then redis.call('SET', KEYS[2], ARGV[1]) end
for i = 2, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
`)

/** The texts that objects were read from: a compare-and-set compares those, an acknowledgement removes those. */
const texts = new WeakMap<object, string>()

function parsed<T extends object>(text: string): T {
  const value = JSON.parse(text) as T
  texts.set(value, text)
  return value
}

/** Reads the value of one field of the `open` hash. */
export function parseIncident(text: string): Incident {
  return parsed<Incident>(text)
}

const transitionsIn = (reply: RedisReply): Transition[] => (reply as string[]).map((text) => parsed<Transition>(text))
const withoutBrace = (value: object): string => JSON.stringify(value).slice(1)

export function redisIncidents(redis: Redis, keys: FleetKeys): Incidents {
  const { restarts } = keys
  const keysOf = (subject: string) => [
    keys.open,
    keys.sequence,
    keys.transitions,
    keys.unsaid,
    keys.flapping(subject),
    restarts,
  ]
  return {
    async open(draft: IncidentDraft, asOf: number) {
      const death = [draft.cause === 'process_dead' ? 1 : 0, draft.group ?? '', draft.ageMs]
      const args = [draft.subject, withoutBrace(draft), asOf, draft.incidentId, ...death]
      return transitionsIn(await OPEN.run(redis, keysOf(draft.subject), args))
    },
    async close(incident: Incident, outcome: Outcome) {
      return transitionsIn(await CLOSE.run(redis, keysOf(incident.subject), [incident.subject, incident.incidentId, outcome]))
    },
    async update(from: Incident, to: Incident) {
      const old = texts.get(from)
      if (old === undefined) return false
      return (await UPDATE.run(redis, [keys.open], [from.subject, old, JSON.stringify(to)])) === 1
    },
    async note({ subject, incidentId }, note) {
      await NOTE.run(redis, [keys.open], [subject, incidentId, withoutBrace(note).slice(0, -1)])
    },
    async record(transitions) {
      const rest = transitions.map(({ seq: _, ...transition }) => withoutBrace(transition))
      await RECORD.run(redis, [keys.sequence, keys.transitions], rest)
    },
    async said(transition) {
      await redis.zrem(keys.unsaid, texts.get(transition) ?? '')
    },
    async claimUnsaid() {
      return transitionsIn(await CLAIM.run(redis, [keys.unsaid], []))
    },
    async restore(incidents) {
      const highest = incidents.reduce((seq, incident) => Math.max(seq, incident.seq), 0)
      const records = incidents.flatMap((incident) => [incident.subject, texts.get(incident) ?? JSON.stringify(incident)])
      await RESTORE.run(redis, [keys.open, keys.sequence], [highest, ...records])
    },
    async listOpen() {
      return Object.values(await redis.hgetall(keys.open)).map(parseIncident)
    },
    async recent(limit) {
      const entries = await redis.xrevrange(keys.transitions, '+', '-', 'COUNT', limit)
      return entries.flatMap(([, fields]) => (fields[1] === undefined ? [] : [parsed<Transition>(fields[1])]))
    },
  }
}
