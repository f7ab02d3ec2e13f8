import { describe, expect, it } from 'vitest'
import { givenBack, shadow } from '../../../src/watch/shadow.js'

class Worker {
  readonly name = 'mail'
  greet(who: string): string {
    return `${this.name} greets ${who}`
  }
}

const shout =
  (original: (...args: unknown[]) => unknown) =>
  (...args: unknown[]) =>
    `${String(original(...args))}!`

describe('a shadowed method', () => {
  it('is seen on this one object only, with its own this, arguments and result', () => {
    const one = new Worker()
    const other = new Worker()
    shadow(one, 'greet', shout)
    expect(one.greet('Ann')).toBe('mail greets Ann!')
    expect(other.greet('Ann')).toBe('mail greets Ann')
    expect(Object.keys(one)).toEqual(['name'])
  })

  it('is given back as it was: inherited, or the own one that stood there', () => {
    const inherited = new Worker()
    shadow(inherited, 'greet', shout)()
    expect(Object.hasOwn(inherited, 'greet')).toBe(false)
    const own = Object.assign(new Worker(), { greet: () => 'mine' })
    const { greet } = own
    shadow(own, 'greet', shout)()
    expect(own.greet).toBe(greet)
  })

  it('over which somebody else put theirs only passes on once it is given back', () => {
    const one = new Worker()
    const giveBack = shadow(one, 'greet', shout)
    const ours = one.greet
    one.greet = (who) => `<${ours(who)}>`
    giveBack()
    expect(one.greet('Ann')).toBe('<mail greets Ann>')
  })

  it('that is not there is left alone', () => {
    const one = new Worker()
    givenBack([shadow(one, 'shout', shout), shadow(one, 'name', shout)])()
    expect(one).toEqual(new Worker())
  })
})
