# aiohttp_chat.py URL COUNT IN_FLIGHT: the job of tests/bench/chat.lua with asyncio and aiohttp.
import asyncio
import resource
import sys
import time

import aiohttp

url, count, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def chat(session, semaphore, i):
    async with semaphore:
        async with session.post(url, raise_for_status=True, json={
            "model": "gpt-4o-mini",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant. Answer in one sentence."},
                {"role": "user", "content": f"Explain in one sentence what {i} is"},
            ],
            "temperature": 0.7, "max_tokens": 64, "stream": False, "user": "bench",
        }) as response:
            return (await response.json())["choices"][0]["message"]["content"]


async def main():
    semaphore = asyncio.Semaphore(in_flight)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:
        await asyncio.gather(*(chat(session, semaphore, i) for i in range(count)))


began, cpu = time.monotonic(), time.process_time()
asyncio.run(main())
print(f"requests={count} wall_s={time.monotonic() - began:.3f} "
      f"cpu_us_per_request={(time.process_time() - cpu) / count * 1e6:.2f} "
      f"peak_rss_kb={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")
