-- Draws the charts of --report as SVG, in the colours of the page.
local tally = require "leat.pipeline.stats"

local floor, max, min = math.floor, math.max, math.min

local M = {}

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

function M.escaped(text)
    return (tostring(text):gsub("[&<>\"']", ESCAPES):gsub("[%z\1-\31\127-\255]", "?"))
end

function M.rect(x, y, w, h, color, title)
    return ('<rect x="%.2f" y="%.2f" width="%.2f" height="%.2f" fill="var(--%s)">%s</rect>'):format(
        x, y, w, h, color, title and "<title>" .. M.escaped(title) .. "</title>" or "")
end

function M.label(x, y, text, anchor)
    return ('<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>'):format(x, y, anchor or "start",
        M.escaped(text))
end

-- The smallest of 1, 2, 3, 4, 5, 6, 8, 10, 20 ... that is at least n.
local function round_up(n)
    local unit = 10 ^ floor(math.log10(n))
    for _, factor in ipairs { 1, 2, 3, 4, 5, 6, 8, 10 } do
        if factor * unit >= n * (1 - 1e-9) then
            return factor * unit
        end
    end
    return 10 * unit
end

local W, H, LEFT, HEAD, FOOT = 440, 150, 40, 16, 18

-- Draws columns of {height, bad part, title}. axis: the texts at its left end, at its right end and below it;
-- marks, a list of {0 to 1, text}, are drawn on it.
function M.columns(cols, axis)
    local most = 0
    for _, c in ipairs(cols) do
        most = max(most, c[1])
    end
    most = most > 0 and round_up(most) or 1
    local base, tall, width = H - FOOT, H - FOOT - HEAD, (W - LEFT) / max(1, #cols)
    local out = { ('<svg viewBox="0 0 %d %d" role="img">'):format(W, H) }
    for i = 0, 2 do
        local y = base - tall * i / 2
        out[#out + 1] = M.rect(LEFT, y, W - LEFT, 1, i == 0 and "rule" or "line")
            .. M.label(LEFT - 6, y + 4, tally.figure(most * i / 2), "end")
    end
    local gap = width > 4 and 1 or 0
    for i, c in ipairs(cols) do
        local h, bad = c[1] / most * tall, (c[2] or 0) / most * tall
        local x, w = LEFT + (i - 1) * width, max(0.5, width - gap)
        if h > 0 then
            out[#out + 1] = M.rect(x, base - h, w, h, "a", c[3])
        end
        if bad > 0 then
            out[#out + 1] = M.rect(x, base - bad, w, bad, "bad", c[3])
        end
    end
    local texts = {}
    for _, mark in ipairs(axis.marks or {}) do
        local x, text = LEFT + min(1, max(0, mark[1])) * (W - LEFT - 1), mark[2]
        out[#out + 1] = M.rect(x, HEAD - 4, 1, tall + 4, "ink")
        while #texts > 0 and x - 6.5 * #text < texts[#texts].x do -- they would overlap
            text = table.remove(texts).text .. ", " .. text
        end
        texts[#texts + 1] = { x = x, text = text }
    end
    for _, t in ipairs(texts) do
        out[#out + 1] = M.label(t.x, HEAD - 6, t.text, "end")
    end
    out[#out + 1] = M.label(LEFT, H - 4, axis.from) .. M.label(W, H - 4, axis.to, "end")
        .. M.label((LEFT + W) / 2, H - 4, axis.unit, "middle") .. "</svg>"
    return table.concat(out)
end

return M
