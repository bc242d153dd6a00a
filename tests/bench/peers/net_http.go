// net_http chat URL COUNT IN_FLIGHT [1.1]: the job of tests/bench/chat.lua with Go's net/http, and as many goroutines
// as requests in flight.
// net_http sse URL STREAMS: the job of tests/bench/sse.lua.
//
// Certificates are those of the file in SSL_CERT_FILE.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type question struct {
	Model       string    `json:"model"`
	Messages    []message `json:"messages"`
	Temperature float64   `json:"temperature"`
	MaxTokens   int       `json:"max_tokens"`
	Stream      bool      `json:"stream"`
	User        string    `json:"user"`
}

type choice struct {
	Message      message `json:"message"`
	Delta        message `json:"delta"`
	FinishReason string  `json:"finish_reason"`
}

type answer struct {
	ID      string   `json:"id"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   struct {
		TotalTokens int `json:"total_tokens"`
	} `json:"usage"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "net_http:", err)
		os.Exit(1)
	}
}

func used() (cpuUs float64, peakKb int64) {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec), u.Maxrss
}

func ask(client *http.Client, url string, i int64) int {
	body, err := json.Marshal(question{
		Model: "gpt-4o-mini",
		Messages: []message{
			{"system", "You are a helpful assistant. Answer in one sentence."},
			{"user", fmt.Sprintf("Explain in one sentence what %d is", i)},
		},
		Temperature: 0.7, MaxTokens: 64, User: "bench",
	})
	must(err)
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	must(err)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	must(err)
	text, err := io.ReadAll(response.Body)
	must(err)
	response.Body.Close()
	var reply answer
	must(json.Unmarshal(text, &reply))
	if response.StatusCode != 200 || len(reply.Choices) == 0 {
		must(fmt.Errorf("status %d", response.StatusCode))
	}
	return len(reply.Choices[0].Message.Content)
}

func chat(client *http.Client, url string, count, inFlight int64) {
	var next int64
	var all sync.WaitGroup
	began := time.Now()
	for k := int64(0); k < inFlight; k++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := atomic.AddInt64(&next, 1); i <= count; i = atomic.AddInt64(&next, 1) {
				ask(client, url, i)
			}
		}()
	}
	all.Wait()
	cpu, peak := used()
	fmt.Printf("requests=%d wall_s=%.3f cpu_us_per_request=%.2f peak_rss_kb=%d\n",
		count, time.Since(began).Seconds(), cpu/float64(count), peak)
}

func read(client *http.Client, url string) (events, size int) {
	response, err := client.Get(url)
	must(err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if !bytes.HasPrefix(lines.Bytes(), []byte("data: ")) {
			continue
		}
		data := lines.Bytes()[len("data: "):]
		events++
		if string(data) != "[DONE]" {
			var chunk answer
			must(json.Unmarshal(data, &chunk))
			size += len(chunk.Choices[0].Delta.Content)
		}
	}
	must(lines.Err())
	return events, size
}

func sse(client *http.Client, url string, streams int64) {
	var events int64
	var all sync.WaitGroup
	for k := int64(0); k < streams; k++ {
		all.Add(1)
		go func() {
			defer all.Done()
			n, _ := read(client, url)
			atomic.AddInt64(&events, int64(n))
		}()
	}
	all.Wait()
	cpu, peak := used()
	fmt.Printf("events=%d us_per_event=%.3f peak_rss_kb=%d\n", events, cpu/float64(events), peak)
}

func number(i int) int64 {
	n, err := strconv.ParseInt(os.Args[i], 10, 64)
	must(err)
	return n
}

func main() {
	if len(os.Args) < 4 {
		must(fmt.Errorf("usage: net_http chat URL COUNT IN_FLIGHT [1.1] | sse URL STREAMS"))
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 20000, DisableCompression: true, ForceAttemptHTTP2: true}
	if len(os.Args) > 5 && os.Args[5] == "1.1" {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		transport.ForceAttemptHTTP2 = false
	}
	client := &http.Client{Transport: transport}
	if os.Args[1] == "sse" {
		sse(client, os.Args[2], number(3))
	} else {
		chat(client, os.Args[2], number(3), number(4))
	}
}
