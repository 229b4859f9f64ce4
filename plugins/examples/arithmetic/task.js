// Arithmetic with exact match on generated answers. The rows are made from the
// round's seed: there is no dataset that a model could have seen.

import { random } from 'evaltasks:task/host@0.1.0';

const DEFAULTS = { rows: 64, operands: 2, max_operand: 99, operators: ['+', '-'], shots: 3 };
const OPERATORS = { '+': (a, b) => a + b, '-': (a, b) => a - b, '*': (a, b) => a * b };
const MAX_ANSWER_TOKENS = 16;

const SCHEMA = {
  title: 'arithmetic',
  type: 'object',
  properties: {
    rows: whole(1, 10000, 'Questions of a round.'),
    operands: whole(2, 8, 'Numbers in a question.'),
    max_operand: whole(1, 99999, 'Largest number in a question.'),
    operators: {
      type: 'array',
      items: { enum: Object.keys(OPERATORS) },
      minItems: 1,
      default: DEFAULTS.operators,
      description: 'Operators to draw from; they are applied from left to right.',
    },
    shots: whole(0, 16, 'Solved questions before the one that is asked.'),
  },
  additionalProperties: false,
};

function whole(minimum, maximum, description) {
  return { type: 'integer', minimum, maximum, description };
}
for (const [key, value] of Object.entries(DEFAULTS)) SCHEMA.properties[key].default = value;

const fail = (tag, text) => { throw { payload: { tag, val: text } }; };

function settings(config) {
  const given = JSON.parse(config);
  for (const [key, value] of Object.entries(given)) {
    const rule = SCHEMA.properties[key];
    if (rule === undefined) fail('config', `unknown key ${key}`);
    const fits = key === 'operators'
      ? Array.isArray(value) && value.length > 0 && value.every((one) => one in OPERATORS)
      : Number.isInteger(value) && rule.minimum <= value && value <= rule.maximum;
    if (!fits) fail('config', `${key} cannot be ${JSON.stringify(value)}`);
  }
  return { ...DEFAULTS, ...given };
}

// A question and its answer, from so many random words.
function question(words, { operands, max_operand, operators }) {
  let text = '';
  let value = 0;
  for (let index = 0; index < operands; index++) {
    const number = words[2 * index] % (max_operand + 1);
    const operator = operators[words[2 * index + 1] % operators.length];
    if (index === 0) {
      text = `${number}`;
      value = number;
    } else {
      // Brackets, because the operators are applied from left to right.
      text = index === 1 ? `${text} ${operator} ${number}` : `(${text}) ${operator} ${number}`;
      value = OPERATORS[operator](value, number);
    }
  }
  return { text, answer: `${value}` };
}

export const task = {
  describe() {
    return {
      id: 'arithmetic',
      version: '1.0.0',
      summary: 'exact match on generated answers to arithmetic, made from the seed',
      configSchema: JSON.stringify(SCHEMA),
      operations: ['generate_until'],
      maxRounds: 1,
    };
  },

  prepare(config) {
    return { sources: [], rows: settings(config).rows };
  },

  build(config, start, count) {
    const given = settings(config);
    const steps = [];
    const words = 2 * given.operands;
    for (let row = start; row < Math.min(start + count, given.rows); row++) {
      // Each row draws by its own key, so that shards do not matter.
      // QuickJS's bindings hand over words above 2^31 as negative numbers.
      const drawn = Array.from(random(`row ${row}`, words * (given.shots + 1)), (word) => word >>> 0);
      const made = (index) => question(drawn.slice(words * index, words * (index + 1)), given);
      let prompt = '';
      for (let shot = 0; shot < given.shots; shot++) {
        const { text, answer } = made(shot);
        prompt += `${text} = ${answer}\n`;
      }
      const { text, answer } = made(given.shots);
      prompt += `${text} =`;
      const operation = {
        tag: 'generate-until',
        val: {
          prompt: { tag: 'raw', val: [{ tag: 'text', val: prompt }] },
          minTokens: 0,
          maxTokens: MAX_ANSWER_TOKENS,
          stop: ['\n'],
          temperature: 0,
          topP: 1,
          samples: 1,
          extra: '',
        },
      };
      // The state is what the row must remember: the right answer, in ASCII.
      const state = Uint8Array.from(answer, (letter) => letter.charCodeAt(0));
      steps.push({ tag: 'ask', val: { state, requests: [{ key: 0, operation }] } });
    }
    return steps;
  },

  score(config, state, responses) {
    const answer = responses[0].answer;
    if (answer.tag === 'failed') fail('disqualified', `a request was left unanswered: ${answer.val}`);
    if (answer.tag !== 'texts') fail('internal', `answered with ${answer.tag}`);
    const right = String.fromCharCode(...state);
    const value = answer.val[0].text.trim() === right ? 1 : 0;
    return { tag: 'done', val: [{ name: 'exact_match', value, weight: 1 }] };
  },

  aggregate(config, samples) {
    const values = samples.flat().filter((one) => one.name === 'exact_match').map((one) => one.value);
    if (values.length === 0) fail('data', 'no row was measured');
    const count = values.length;
    const mean = values.reduce((sum, value) => sum + value, 0) / count;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const stderr = count > 1 ? Math.sqrt(squares / (count - 1)) / Math.sqrt(count) : undefined;
    return [{ name: 'exact_match', value: mean, stderr, higherIsBetter: true, samples: count }];
  },
};
