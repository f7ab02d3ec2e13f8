/** Methods of somebody else's object that are seen by us on their way, and given back as they were. */

type Method = (...args: never[]) => unknown
type Passing = (...args: unknown[]) => unknown

export type GiveBack = () => void

/**
 * Puts `see` in the place of a method of this one object; the class and its other objects stay as they are.
 * @param see gets the original, bound, and gives what is called instead
 * @returns gives it back; if somebody else has put theirs over ours meanwhile, ours only passes on from then on
 */
export function shadow(target: object, method: string, see: (original: Passing) => Passing): GiveBack {
  const original: unknown = Reflect.get(target, method)
  if (typeof original !== 'function') return () => undefined
  const own = Object.getOwnPropertyDescriptor(target, method)
  const pass: Passing = (...args) => Reflect.apply(original as Method, target, args)
  let current = see(pass)
  const ours: Passing = (...args) => current(...args)
  Object.defineProperty(target, method, {
    value: ours,
    writable: true,
    configurable: true,
    enumerable: own?.enumerable ?? false,
  })
  return () => {
    current = pass
    if (Reflect.get(target, method) !== ours) return
    Reflect.deleteProperty(target, method)
    if (own) Object.defineProperty(target, method, own)
  }
}

/** What waits for all of them. */
export function givenBack(all: readonly GiveBack[]): GiveBack {
  return () => {
    for (const one of all) one()
  }
}
