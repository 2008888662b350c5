-- Every write of one change, or none: what could make one of them fail is looked for before the first.
-- KEYS  keys of a certain type
-- ARGV  their types, then the commands, each as the number of its words and the words
-- XADD of what is no stream is left out: a log that somebody mangled must not cost the book its news.
local function kind_of(key) return redis.call('TYPE', key).ok end

for index, key in ipairs(KEYS) do
  local kind = kind_of(key)
  if kind ~= 'none' and kind ~= ARGV[index] then
    return redis.error_reply('WRONGTYPE ' .. key .. ' holds a ' .. kind)
  end
end

local commands, at = {}, #KEYS + 1
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  local words = {unpack(ARGV, at + 1, at + length)}
  if words[1] == 'HINCRBY' then
    local value = redis.call('HGET', words[2], words[3])
    if value and (#value > 18 or not string.match(value, '^%-?%d+$')) then
      return redis.error_reply('WRONGVALUE ' .. words[3] .. ' in ' .. words[2] .. ' is no count')
    end
  end
  local kind = words[1] == 'XADD' and kind_of(words[2])
  if not kind or kind == 'none' or kind == 'stream' then commands[#commands + 1] = words end
  at = at + length + 1
end

for _, words in ipairs(commands) do redis.call(unpack(words)) end
return #commands
