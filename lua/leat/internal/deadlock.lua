-- Reports deadlocks (all tasks wait, and nothing can wake one of them) and tasks that have waited for long.

-- Maxima: lines of tasks in a report, lines of tasks that wait at the same place, and tasks of a circle.
local MOST, ALIKE, IN_CIRCLE = 60, 3, 10

-- One line for each task, with what `describe` returns for it. Thousands of tasks may wait at one place: only
-- a few of them are listed.
local function list(tasks, describe)
    local lines, places, order, left = {}, {}, {}, 0
    for _, t in ipairs(tasks) do
        local place = ("(%s)%s: %s"):format(t.name, t.at and " at " .. t.at or "",
            t.waiting and "waiting in " .. t.waiting or t.status)
        local n = places[place] or 0
        if n == 0 then
            order[#order + 1] = place
        end
        places[place] = n + 1
        if n >= ALIKE then
            left = left + 1
        elseif #lines < MOST then
            lines[#lines + 1] = describe(t)
        else
            left = left + 1
        end
    end
    for _, place in ipairs(order) do
        local n = places[place] - ALIKE
        if n > 0 and #lines < MOST then
            lines[#lines + 1] = ("and %d more %s"):format(n, place)
            left = left - n
        end
    end
    if left > 0 then
        lines[#lines + 1] = ("and %d more tasks"):format(left)
    end
    return lines
end

-- The ids of the tasks that have to go on before `t` can go on.
local function needs(t, children)
    local detail = t.detail or ""
    if t.waiting == "await" or t.waiting == "wait_for" or t.waiting == "shield" then
        return { tonumber(detail:match "^task (%d+)") }
    elseif t.waiting == "acquire" then -- the task that holds the only permit
        local holder, more = detail:match "^1 permit,.-held by task (%d+)(.*)"
        return { holder and not more:find "held by" and tonumber(holder) or nil }
    elseif t.waiting == "gather" or t.status == "joining" then
        return children[t.id] or {}
    end
    return {}
end

-- A circle of tasks that wait for each other, as a list in that order, or nil.
local function find_circle(tasks)
    local by_id, children = {}, {}
    for _, t in ipairs(tasks) do
        by_id[t.id] = t
    end
    for _, t in ipairs(tasks) do
        local up = by_id[t.parent]
        if up and (up.status == "joining" or t.member) then
            children[up.id] = children[up.id] or {}
            table.insert(children[up.id], t.id)
        end
    end
    local place = {} -- position in the path; 0: visited, and not part of a circle
    for _, first in ipairs(tasks) do
        local path, open = {}, {}
        local function enter(t)
            path[#path + 1], place[t.id] = t, #path + 1
            open[#open + 1] = { ids = needs(t, children), i = 0 }
        end
        if not place[first.id] then
            enter(first)
        end
        while #path > 0 do
            local at = open[#open]
            at.i = at.i + 1
            local id = at.ids[at.i]
            local t = id and by_id[id]
            if not id then
                place[path[#path].id] = 0
                path[#path], open[#open] = nil, nil
            elseif t and not place[id] then
                enter(t)
            elseif t and place[id] > 0 then
                local from = place[id]
                return { unpack(path, from, math.min(#path, from + IN_CIRCLE)) }, #path - from + 1
            end
        end
    end
end

local function circle(tasks)
    local path, n = find_circle(tasks)
    if not path then
        return nil
    end
    local names = {}
    for i = 1, math.min(n, IN_CIRCLE) do
        names[i] = ("task %d (%s)"):format(path[i].id, path[i].name)
    end
    if n > IN_CIRCLE then
        names[#names + 1] = ("%d more"):format(n - IN_CIRCLE)
    end
    names[#names + 1] = ("task %d"):format(path[1].id)
    return "in a circle: " .. table.concat(names, " waits for ", 1, 2)
        .. (names[3] and ", which waits for " .. table.concat(names, ", which waits for ", 3) or "")
end

local M = {}

-- The whole report of a deadlock.
function M.report(tasks, describe)
    local lines = list(tasks, describe)
    lines[#lines + 1] = circle(tasks)
    return table.concat(lines, "\n")
end

-- One line for each task that has waited for at least `seconds`.
function M.long_waits(tasks, describe, seconds)
    local long = {}
    for _, t in ipairs(tasks) do
        if t.waiting and t.since >= seconds then
            long[#long + 1] = t
        end
    end
    return list(long, describe)
end

return M
