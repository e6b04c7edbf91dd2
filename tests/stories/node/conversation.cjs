// What every Node client does around its calls; the lines are those of python/conversation.py.
'use strict';

const readline = require('readline');

class Refused extends Error {
  constructor(code, status, message) {
    super(code);
    this.told = { code, status, message };
  }
}

// Calls are made one after another. What is no refusal is a failure of the test and ends the script.
async function hold(call) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { action, parameters } = JSON.parse(line);
    let told;
    try {
      told = { answer: await call(action, parameters) };
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      told = { refused: error.told };
    }
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
}

module.exports = { Refused, hold };
