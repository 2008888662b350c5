-- The gate: the last thing before every submit, and where the intent becomes durable. Reads first, then writes.
-- KEYS  1 trading_settings  2 risk_settings  3 trading_armed  4 trading_epoch  5 lease  6 order  7 orders:open
--       8 risk_counters of the day  9 risk_last_trade  10 positions:open
-- ARGV  1 settings bytes  2 '1' where risk_settings stands  3 its bytes  4 epoch  5 lease owner  6 client order id
--       7 ticker  8 'entry' or 'exit'  9 notional in 1e-6  10, 11 bounds of the trading day in Unix seconds
--       12 cap in 1e-6 (0: none)  13 orders per ticker  14 cooldown in ms  15 orders per run  16 run id
--       17 open positions allowed  18 prefix of order keys  19 prefix of position keys  20 lifetime of the counters
--       21… fields and values of the order
local function deny(code, detail) return {code, detail} end

local function read(key)
  local found = redis.pcall('GET', key)
  if type(found) == 'table' then return nil, true end
  return found, false
end

local settings, odd = read(KEYS[1])
if odd or not settings or settings ~= ARGV[1] then
  return deny('SETTINGS_CHANGED', 'trading_settings is not what was judged')
end
local risk, odd_risk = read(KEYS[2])
if odd_risk or (ARGV[2] == '1') ~= (risk and true or false) or (risk and risk ~= ARGV[3]) then
  return deny('SETTINGS_CHANGED', 'risk_settings is not what was judged')
end

local epoch, odd_epoch = read(KEYS[4])
if odd_epoch or not epoch or epoch ~= ARGV[4] then
  return deny('EPOCH_CHANGED', 'decided in epoch ' .. ARGV[4] .. ', now ' .. tostring(epoch or 'none'))
end
local armed, odd_armed = read(KEYS[3])
if odd_armed or not armed or armed ~= epoch then
  return deny('NOT_ARMED', 'the emergency worker does not arm trading')
end
local owner, odd_owner = read(KEYS[5])
if odd_owner or not owner or owner ~= ARGV[5] then
  return deny('LEASE_LOST', 'the lease of the account is not ours')
end

local now = redis.call('TIME')
local seconds = tonumber(now[1])
if seconds < tonumber(ARGV[10]) - 2 or seconds >= tonumber(ARGV[11]) + 2 then
  return deny('WRONG_DAY', 'Redis time ' .. now[1] .. ' is outside the trading day named')
end

local wanted = {[6] = 'none', [7] = 'set', [8] = 'hash', [9] = 'hash', [10] = 'set'}
for index, kind in pairs(wanted) do
  local found = redis.call('TYPE', KEYS[index]).ok
  if index == 6 and found ~= 'none' then return deny('DUPLICATE_ID', 'an order of this id exists') end
  if found ~= 'none' and found ~= kind then return deny('WRONG_TYPE', KEYS[index] .. ' holds a ' .. found) end
end

local ticker, entry, notional = ARGV[7], ARGV[8] == 'entry', tonumber(ARGV[9])
local limit = 9007199254740992
if not notional or notional ~= notional or notional < 0 or notional >= limit then
  return deny('NUMBER_TOO_LARGE', 'notional ' .. ARGV[9])
end

local counted = redis.call('HMGET', KEYS[8], 'notional', 'orders:' .. ticker, 'run')
local function number(text)
  if not text then return 0 end
  local value = tonumber(text)
  if not value or value ~= value or value < 0 or value >= limit then return nil end
  return value
end
local total, orders = number(counted[1]), number(counted[2])
if not total or not orders or total + notional >= limit then
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
    return deny('DAILY_NOTIONAL_CAP', string.format('%.2f + %.2f > %.2f', total / 1e6, notional / 1e6, cap / 1e6))
  end
  if orders >= tonumber(ARGV[13]) then
    return deny('ORDERS_PER_TICKER', orders .. ' + 1 > ' .. ARGV[13] .. ' today in ' .. ticker)
  end
  local last = redis.call('HGET', KEYS[9], ticker)
  if last then
    local at = tonumber(last)
    if not at or at ~= at then return deny('COUNTERS_UNREADABLE', KEYS[9] .. ' holds what is no time') end
    if now_ms - at < tonumber(ARGV[14]) then
      return deny('COOLDOWN', ticker .. ' for another ' .. math.ceil((tonumber(ARGV[14]) - (now_ms - at)) / 1000) .. ' s')
    end
  end
  local allowed = tonumber(ARGV[17])
  if redis.call('SCARD', KEYS[10]) + redis.call('SCARD', KEYS[7]) >= allowed then
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

redis.call('HSET', KEYS[6], unpack(ARGV, 21))
-- What a refused order gives back is the cooldown as it was, not none.
redis.call('HSET', KEYS[6], 'cooldown_at', now_ms, 'cooldown_before', redis.call('HGET', KEYS[9], ticker) or '')
redis.call('SADD', KEYS[7], ARGV[6])
redis.call('HINCRBY', KEYS[8], 'notional', ARGV[9])
redis.call('HINCRBY', KEYS[8], 'notional:' .. ticker, ARGV[9])
redis.call('HINCRBY', KEYS[8], 'orders', 1)
redis.call('HINCRBY', KEYS[8], 'orders:' .. ticker, 1)
redis.call('HSET', KEYS[8], 'last_trade:' .. ticker, now_ms, 'run', ARGV[16] .. ':' .. (run_orders + 1))
redis.call('EXPIRE', KEYS[8], ARGV[20])
redis.call('HSET', KEYS[9], ticker, now_ms)
return {'ADMITTED', ''}
