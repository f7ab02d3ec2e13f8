export type Kind = 'a' | 'b'
export const kinds: [Kind] = ['a']
