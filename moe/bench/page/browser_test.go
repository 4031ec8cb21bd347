package page_test

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/moe/bench/page"
	"github.com/marlingen/marlingen/moe/bench/result"
)

//go:embed testdata/inspect.js
var inspect string

// browser returns a context of Chromium. A test without it is skipped, unless it
// must be there.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		require.NotEqual(t, "1", os.Getenv("MARLINGEN_REQUIRE_CHROMIUM"), "no chromium; apt install chromium")
		t.Skip("no chromium or google-chrome: apt install chromium")
	}
	o := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), o...)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// rich returns a page of everything that there can be on one.
func rich(t testing.TB) *page.Page {
	t.Helper()
	r := newRandom(3)
	old := r.document()
	new := r.again(old)
	gpu := r.document()
	gpu.Device = result.Device{Kind: "cuda", Name: "A rather large device with a rather long name", Driver: "580.159"}
	for i := range 9 { // more series than there are looks
		for _, batch := range []string{"1", "4096"} {
			gpu.Cells = append(gpu.Cells, r.cell(fmt.Sprintf("many/%d/%s", i, batch), 5, map[string]string{
				"sweep": "many", "mix": "glm", "batch": batch, "variant": string(rune('a' + i)),
			}))
		}
	}
	stale := r.document()
	stale.Digest, stale.Benchmark = strings.Repeat("e2", 32), "prefill"
	plain := r.document() // nothing in it grows
	plain.Benchmark, plain.Level, plain.Counters.Fallbacks = "decode", result.Models, nil
	plain.Cells = []result.Cell{r.cell("tokens", 2, map[string]string{"model": "glm"})}
	skipped := r.document()
	skipped.Status = result.Skipped
	p, err := page.New(entries(old, new, gpu, stale, plain, skipped), page.Options{Digest: digest, AllowStale: true})
	require.NoError(t, err)
	return p
}

// A browser shows the page on a telephone and on a desk, by day and by night,
// whole and legible, and asks nobody for anything. Pictures of it are left in the
// folder that MARLINGEN_PICTURES names.
func TestBrowser(t *testing.T) {
	ctx := browser(t)
	file := filepath.Join(t.TempDir(), "page.html")
	html, _ := render(t, rich(t))
	require.NoError(t, os.WriteFile(file, []byte(html), 0o644))
	address := (&url.URL{Scheme: "file", Path: file}).String()

	var mu sync.Mutex
	var requests, complaints []string
	listen := func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			requests = append(requests, e.Request.URL)
		case *cdpruntime.EventConsoleAPICalled:
			complaints = append(complaints, "console: "+string(e.Type))
		case *cdpruntime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text)
		}
	}
	require.NoError(t, chromedp.Listen(ctx, listen))
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	_, err = chromedp.Call(ctx, cdpruntime.Enable, cdp.Empty{})
	require.NoError(t, err)
	loads := 0
	for _, width := range []int64{400, 1200} {
		for _, scheme := range []string{"light", "dark"} {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			require.NoError(t, err)
			require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(address)))
			wrong, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](inspect))
			require.NoError(t, err)
			loads++
			require.Empty(t, wrong, "%d px, %s", width, scheme)
			if dir := os.Getenv("MARLINGEN_PICTURES"); dir != "" {
				picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
				require.NoError(t, err)
				name := filepath.Join(dir, fmt.Sprintf("page-%d-%s.png", width, scheme))
				require.NoError(t, os.WriteFile(name, picture, 0o644))
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, complaints)
	require.Len(t, requests, loads)
	for _, r := range requests {
		require.Equal(t, address, r)
	}
}
