function love.conf(t)
    t.modules = { event = true, timer = true }
    t.window = false
end
