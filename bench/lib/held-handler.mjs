export default () => new Promise((resolve) => setTimeout(resolve, 10_000))
