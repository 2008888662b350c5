-- The gate: the last thing before every submit, and where the intent becomes durable. Reads first, then writes.
-- KEYS  1 trading_settings  2 risk_settings  3 trading_armed  4 trading_epoch  5 lease  6 order  7 orders:open
--       8 risk_counters of the day  9 risk_last_trade  10 positions:open
-- ARGV  1 settings bytes  2 '1' where risk_settings stands  3 its bytes  4 epoch  5 lease owner  6 client order id
--       7 ticker  8 'entry' or 'exit'  9 notional in 1e-6  10, 11 bounds of the trading day in Unix seconds
--       12 cap in 1e-6 (0: none)  13 orders per ticker  14 cooldown in ms  15 orders per run  16 run id
--       17 open positions allowed  18 prefix of order keys  19 prefix of position keys  20 lifetime of the counters
--       21… fields and values of the order
local function deny(code, detail) return {code, detail} end

-- 49900000000 is 49,900.00
local function money(micros)
  local whole, cents = string.match(string.format('%.2f', micros / 1e6), '^(%d+)(%.%d+)$')
  return (string.gsub(string.reverse((string.gsub(string.reverse(whole), '(%d%d%d)', '%1,'))), '^,', '')) .. cents
end

-- One reading of all five: what is missing and what is no string are the same here, and neither is what was judged.
local found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
local settings, risk, armed, epoch, owner = found[1], found[2], found[3], found[4], found[5]

if not settings or settings ~= ARGV[1] then
  return deny('SETTINGS_CHANGED', 'trading_settings is not what was judged')
end
local same = (risk or '') == ARGV[3] and (ARGV[2] == '1') == (risk and true or false)
if not same or (not risk and redis.call('EXISTS', KEYS[2]) == 1) then
  return deny('SETTINGS_CHANGED', 'risk_settings is not what was judged')
end

if not epoch or epoch ~= ARGV[4] then
  return deny('EPOCH_CHANGED', 'decided in epoch ' .. ARGV[4] .. ', now ' .. tostring(epoch or 'none'))
end
if not armed or armed ~= epoch then
  return deny('NOT_ARMED', 'the emergency worker does not arm trading')
end
if not owner or owner ~= ARGV[5] then
  return deny('LEASE_LOST', 'the lease of the account is not ours')
end

local now = redis.call('TIME')
local seconds = tonumber(now[1])
if seconds < tonumber(ARGV[10]) - 2 or seconds >= tonumber(ARGV[11]) + 2 then
  return deny('WRONG_DAY', 'Redis time ' .. now[1] .. ' is outside the trading day named')
end
if redis.call('EXISTS', KEYS[6]) == 1 then return deny('DUPLICATE_ID', 'an order of this id exists') end

-- What a key of another type would fail at is asked before the first write, and by the way tells the type.
local ticker = ARGV[7]
local working = redis.pcall('SCARD', KEYS[7])
local counted = redis.pcall('HMGET', KEYS[8], 'notional', 'orders:' .. ticker, 'run', 'notional:' .. ticker, 'orders')
local last = redis.pcall('HGET', KEYS[9], ticker)
local positions = redis.pcall('SCARD', KEYS[10])
for index, answer in ipairs({working, counted, last, positions}) do
  if type(answer) == 'table' and answer.err then
    local key = KEYS[6 + index]
    return deny('WRONG_TYPE', key .. ' holds a ' .. redis.call('TYPE', key).ok)
  end
end

local entry, notional = ARGV[8] == 'entry', tonumber(ARGV[9])
local limit = 9007199254740992
if not notional or notional ~= notional or notional < 0 or notional >= limit then
  return deny('NUMBER_TOO_LARGE', 'notional ' .. ARGV[9])
end

-- Only what an increment would take. What a limit is set on is never below zero, the other totals are carried on.
local function whole(text, least)
  if not text then return 0 end
  local value = string.match(text, '^%-?%d+$') and tonumber(text)
  return value and value >= least and value < limit and value
end
local total, orders = whole(counted[1], 0), whole(counted[2], 0)
local of_ticker, of_day = whole(counted[4], -limit), whole(counted[5], -limit)
if not (total and orders and of_ticker and of_day) or total + notional >= limit or of_ticker + notional >= limit then
  return deny('COUNTERS_UNREADABLE', KEYS[8] .. ' holds what is no count')
end

local run_id, run_orders = string.match(counted[3] or '', '^(.*):(%d+)$')
run_orders = (run_id == ARGV[16]) and tonumber(run_orders) or 0
if run_orders >= tonumber(ARGV[15]) then
  return deny('TRADES_PER_RUN', run_orders .. ' + 1 > ' .. ARGV[15])
end

local now_ms = seconds * 1000 + math.floor(tonumber(now[2]) / 1000)
if entry then
  local cap = tonumber(ARGV[12])
  if cap > 0 and total + notional > cap then
    return deny('DAILY_NOTIONAL_CAP', money(total) .. ' + ' .. money(notional) .. ' > ' .. money(cap))
  end
  if orders >= tonumber(ARGV[13]) then
    return deny('ORDERS_PER_TICKER', orders .. ' + 1 > ' .. ARGV[13] .. ' today in ' .. ticker)
  end
  if last then
    local at = tonumber(last)
    if not at or at ~= at then return deny('COUNTERS_UNREADABLE', KEYS[9] .. ' holds what is no time') end
    if now_ms - at < tonumber(ARGV[14]) then
      return deny('COOLDOWN', ticker .. ' for another ' .. math.ceil((tonumber(ARGV[14]) - (now_ms - at)) / 1000) .. ' s')
    end
  end
  local allowed = tonumber(ARGV[17])
  if positions + working >= allowed then
    -- Only near the limit is it worth telling tickers apart.
    local seen, tickers = {}, 0
    local function count(name)
      if name and not seen[name] then
        seen[name] = true
        tickers = tickers + 1
      end
    end
    for _, id in ipairs(redis.call('SMEMBERS', KEYS[10])) do count(redis.call('HGET', ARGV[19] .. id, 'symbol')) end
    for _, id in ipairs(redis.call('SMEMBERS', KEYS[7])) do
      local found = redis.call('HMGET', ARGV[18] .. id, 'ticker', 'effect')
      if found[2] ~= 'exit' then count(found[1]) end
    end
    if not seen[ticker] and tickers >= allowed then
      return deny('OPEN_POSITIONS', tickers .. ' + 1 > ' .. allowed)
    end
  end
end

-- What a refused order gives back is the cooldown as it was, not none.
redis.call('HSET', KEYS[6], 'cooldown_at', now_ms, 'cooldown_before', last or '', unpack(ARGV, 21))
redis.call('SADD', KEYS[7], ARGV[6])
redis.call('HSET', KEYS[8],
  'notional', total + notional, 'notional:' .. ticker, of_ticker + notional,
  'orders', of_day + 1, 'orders:' .. ticker, orders + 1,
  'last_trade:' .. ticker, now_ms, 'run', ARGV[16] .. ':' .. (run_orders + 1))
redis.call('EXPIRE', KEYS[8], ARGV[20])
redis.call('HSET', KEYS[9], ticker, now_ms)
return redis.status_reply('ADMITTED')
