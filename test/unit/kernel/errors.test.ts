import { describe, expect, it } from 'vitest'
import { FenceLostError, isRefusal, messageOf, PermanentError, UserError } from '../../../src/kernel/errors.js'

describe('errors', () => {
  it('a user error keeps its code, its one line and its cause', () => {
    const cause = new Error('ENOENT')
    const error = new UserError('CONFIG_NOT_FOUND', 'a.mjs: not found; check --config', { cause })
    expect(error).toMatchObject({
      name: 'UserError',
      code: 'CONFIG_NOT_FOUND',
      message: 'a.mjs: not found; check --config',
      cause,
    })
  })

  it('a permanent error is known by a field that survives the loss of its class', () => {
    const { name, message, permanent } = new PermanentError('no such customer')
    expect({ name, message, permanent }).toEqual({ name: 'PermanentError', message: 'no such customer', permanent: true })
  })

  it('a lost fence is a refusal', () => {
    const error = new FenceLostError('job a: is not ours')
    expect(error).toBeInstanceOf(UserError)
    expect(error.name).toBe('FenceLostError')
    expect(isRefusal(error.code)).toBe(true)
  })

  it('anything thrown has a text', () => {
    expect([new Error('a'), 'b', 3, undefined, null].map(messageOf)).toEqual(['a', 'b', '3', 'undefined', 'null'])
  })
})
