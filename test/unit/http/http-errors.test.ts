import { describe, expect, it } from 'vitest'
import { errorAnswer } from '../../../src/http/http-errors.js'
import { UserError, type UserErrorCode } from '../../../src/kernel/errors.js'

/** Every code that there is: the compiler holds this table to the list. */
const statuses: Readonly<Record<UserErrorCode, number>> = {
  CONFIG_INVALID: 400,
  CONFIG_NOT_FOUND: 400,
  HANDLER_NOT_FOUND: 500,
  INPUT_INVALID: 400,
  NAME_TAKEN: 500,
  PORT_IN_USE: 500,
  QUEUE_UNKNOWN: 404,
  REDIS_MISSING: 503,
  REDIS_UNREACHABLE: 503,
  REDIS_UNSUITABLE: 503,
  SENTINEL_UNREACHABLE: 503,
  SESSION_MISSING: 500,
  SESSION_UNREACHABLE: 500,
  DUMP_REFUSED: 409,
  DUMP_UNKNOWN: 404,
  JOB_CANCELLED: 409,
  JOB_COMPLETED: 409,
  JOB_FAILED: 409,
  JOB_FOREIGN: 409,
  JOB_FRESH: 409,
  JOB_RUNNING: 409,
  JOB_SCHEDULED: 409,
  JOB_TAKEN: 409,
  JOB_UNKNOWN: 404,
  JOB_WAITS_FOR_CHILDREN: 409,
  SUPERVISOR_GONE: 409,
  SUPERVISOR_UNKNOWN: 404,
  THREAD_UNKNOWN: 404,
}

describe('an error as an answer', () => {
  it('has the status of its code, its code and its words', () => {
    for (const [code, status] of Object.entries(statuses)) {
      const error = new UserError(code as UserErrorCode, 'thing: wrong; the fix')
      expect(errorAnswer(error)).toEqual({ status, code, message: 'thing: wrong; the fix' })
    }
  })

  it('is 503 when Redis is away or takes no orders, also inside of a script', () => {
    const answers = [
      'Command timed out',
      'Connection is closed.',
      "Stream isn't writeable and enableOfflineQueue options is false",
      'connect ECONNREFUSED 127.0.0.1:6379',
      "OOM command not allowed when used memory > 'maxmemory'.",
      "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica.",
      'LOADING Redis is loading the dataset in memory',
    ].map((message) => errorAnswer(new Error(message)))
    expect(answers.map(({ status, code }) => `${status} ${code}`)).toEqual([
      ...Array<string>(4).fill('503 REDIS_UNREACHABLE'),
      ...Array<string>(3).fill('503 REDIS_UNSUITABLE'),
    ])
  })

  it('tells nobody what broke inside', () => {
    const inside = { status: 500, code: 'INTERNAL', message: 'the request could not be served' }
    for (const thrown of [new Error('secret'), new TypeError('secret'), 'secret', undefined, null, { statusCode: 99 }])
      expect(errorAnswer(thrown)).toEqual(inside)
    expect(errorAnswer(Object.assign(new Error('too large'), { statusCode: 413 }))).toMatchObject({ code: 'BODY_TOO_LARGE' })
    expect(errorAnswer(Object.assign(new Error('no'), { statusCode: 502 }))).toEqual(inside)
  })
})
