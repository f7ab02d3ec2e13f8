module.exports = async () => undefined
