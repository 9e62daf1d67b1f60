// Package program starts the programs under test and reads what they print.
package program

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a program may take to start or to end.
const patience = time.Minute

// Program is a running program under test.
type Program struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex
	lines []string
}

// Start runs the program that the environment variable names, waits for the line that begins
// with "ready", and ends it when the test ends. Without the variable the test is skipped: it is
// for `cargo test`, which builds the programs and sets it.
func Start(t *testing.T, variable string, args ...string) *Program {
	t.Helper()
	binary := os.Getenv(variable)
	if binary == "" {
		t.Skipf("%s is not set: run this by `cargo test`, which builds the programs", variable)
	}
	p := &Program{t: t, cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	var readers sync.WaitGroup
	readers.Add(2)
	go func() { defer readers.Done(); p.read(out, ready) }()
	go func() { defer readers.Done(); p.read(log, nil) }()
	go func() { readers.Wait(); p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(p.Stop)
	select {
	case <-ready:
	case <-p.ended:
		t.Fatalf("%s %v ended before it was ready:\n%s", binary, args, p.Output())
	case <-time.After(patience):
		t.Fatalf("%s %v is not ready:\n%s", binary, args, p.Output())
	}
	return p
}

func (p *Program) read(from io.Reader, ready chan struct{}) {
	scanner := bufio.NewScanner(from)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		p.mu.Unlock()
		if ready != nil && strings.HasPrefix(scanner.Text(), "ready ") {
			close(ready)
			ready = nil
		}
	}
}

// Output is everything the program has printed so far.
func (p *Program) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// Stop ends the program as a service manager would, and waits until it has ended.
func (p *Program) Stop() {
	p.t.Helper()
	select {
	case <-p.ended:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.ended
		p.t.Errorf("did not end on SIGTERM:\n%s", p.Output())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

// Kill ends the program at once, as a power cut would.
func (p *Program) Kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// Field is the value of name=value in the ready line.
func (p *Program) Field(name string) string {
	p.t.Helper()
	for _, line := range strings.Split(p.Output(), "\n") {
		if !strings.HasPrefix(line, "ready ") {
			continue
		}
		for _, field := range strings.Fields(line) {
			if value, ok := strings.CutPrefix(field, name+"="); ok {
				return value
			}
		}
	}
	p.t.Fatalf("no %s= in the ready line of:\n%s", name, p.Output())
	return ""
}

// After is the rest of the first line that contains the text.
func (p *Program) After(text string) string {
	p.t.Helper()
	for _, line := range strings.Split(p.Output(), "\n") {
		if _, rest, ok := strings.Cut(line, text); ok {
			return strings.Fields(rest)[0]
		}
	}
	p.t.Fatalf("no %q in:\n%s", text, p.Output())
	return ""
}

// QuietPort is a port that stays the test's, whether anybody listens there or not: for what comes
// back at the same place. The system gives it to nobody by itself, and the name of the abstract
// socket claims it, here and in derp/relay/tests/support/quiet.rs.
func QuietPort(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		t.Fatal(err)
	}
	for port := 10_000; port < 65_000; port++ {
		if port >= first && port <= last {
			continue
		}
		claim, err := net.Listen("unix", fmt.Sprintf("@derp-test-port-%d", port))
		if err != nil {
			continue
		}
		tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			tcp.Close()
			var udp net.PacketConn
			if udp, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port)); err == nil {
				udp.Close()
				t.Cleanup(func() { claim.Close() })
				return port
			}
		}
		claim.Close()
	}
	t.Fatal("no port is free")
	return 0
}

// Port is the port of host:port.
func Port(t *testing.T, address string) int {
	t.Helper()
	port, err := strconv.Atoi(address[strings.LastIndex(address, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Metric is the value of a metric, labels included in its name, at a metrics listener.
func Metric(t *testing.T, address, name string) float64 {
	t.Helper()
	answer, err := http.Get(fmt.Sprintf("http://%s/metrics", address))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// Write makes a file in the test's own folder and returns its path.
func Write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
