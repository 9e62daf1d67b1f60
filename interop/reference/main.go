// Command reference is the server that benches compare with: Tailscale's own relay and STUN
// server, as the libraries of the pinned tailscale.com release have them.
//
// Does: serves DERP with or without TLS, and STUN, to everybody, with the settings that derper
// has without flags; prints the pin of its certificate and one line when it is ready.
// Does not: verify clients, limit rates, keep a key or a certificate, or serve pages.
//
//	CertName: sha256-raw:HEX
//	ready derp=127.0.0.1:PORT stun=127.0.0.1:PORT
//
// Port 0 takes any free port. docs/benchmarking.md says how it is measured.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/derp/derpserver"
	"tailscale.com/net/ktimeout"
	"tailscale.com/net/netmon"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// Settings of derper without flags, where the library leaves them to its caller.
const (
	requestTimeout = 30 * time.Second
	tcpKeepAlive   = 10 * time.Minute
	tcpUserTimeout = 15 * time.Second
)

// none is what `-derp` and `-stun` take for "not at all".
const none = "none"

func main() {
	log.SetFlags(0)
	log.SetPrefix("reference: ")
	derpAddress := flag.String("derp", "127.0.0.1:0", "`address` of DERP, or none")
	stunAddress := flag.String("stun", "127.0.0.1:0", "`address` of STUN, or none")
	useTLS := flag.Bool("tls", false, "serve DERP over TLS with a certificate made at start")
	meshKey := flag.String("mesh-psk-file", "", "`file` with the mesh key, 64 hex digits")
	meshWith := flag.String("mesh-with", "", "`addresses` of servers to mesh with, with or without TLS as this one, with commas between")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Printf("unexpected argument %q", flag.Arg(0))
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *derpAddress, *stunAddress, *useTLS, *meshKey, *meshWith); err != nil {
		log.Fatal(err)
	}
}

// run opens what is asked for, says so, and serves until ctx is done.
func run(ctx context.Context, derpAddress, stunAddress string, useTLS bool, meshKey, meshWith string) error {
	failed := make(chan error, 2)
	ready := "ready"

	relay := derpserver.New(key.NewNode(), func(string, ...any) {})
	defer relay.Close()
	if meshKey != "" {
		text, err := os.ReadFile(meshKey)
		if err != nil {
			return err
		}
		if err := relay.SetMeshKey(strings.TrimSpace(string(text))); err != nil {
			return fmt.Errorf("%s: %w", meshKey, err)
		}
	}

	if derpAddress == none {
		ready += " derp=none"
	} else {
		listener, err := listen(ctx, derpAddress)
		if err != nil {
			return fmt.Errorf("-derp: %w", err)
		}
		ready += " derp=" + listener.Addr().String()
		server := &http.Server{Handler: pages(relay), ReadTimeout: requestTimeout, WriteTimeout: requestTimeout}
		if useTLS {
			certificate, err := selfSigned()
			if err != nil {
				return err
			}
			fmt.Printf("CertName: sha256-raw:%x\n", sha256.Sum256(certificate.Certificate[0]))
			server.TLSConfig = tlsConfig(relay, certificate)
			go func() { failed <- server.ServeTLS(listener, "", "") }()
		} else {
			go func() { failed <- server.Serve(listener) }()
		}
	}

	if stunAddress == none {
		ready += " stun=none"
	} else {
		stun := stunserver.New(ctx)
		// It logs where it listens; the line below says it too.
		if err := stun.Listen(stunAddress); err != nil {
			return fmt.Errorf("-stun: %w", err)
		}
		ready += " stun=" + stun.LocalAddr().String()
		go func() { failed <- stun.Serve() }()
	}

	for address := range strings.SplitSeq(meshWith, ",") {
		if address == "" {
			continue
		}
		if err := mesh(ctx, relay, address, useTLS); err != nil {
			return fmt.Errorf("-mesh-with: %w", err)
		}
	}

	fmt.Println(ready)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if err == nil {
			err = errors.New("a listener has closed")
		}
		return err
	}
}

// listen opens a TCP listener with derper's socket options.
func listen(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{
		Control:   ktimeout.UserTimeout(tcpUserTimeout),
		KeepAlive: tcpKeepAlive,
	}
	// The kernel refuses the user timeout on multipath sockets.
	config.SetMultipathTCP(false)
	return config.Listen(ctx, "tcp", address)
}

// pages is the part of derper that clients talk to.
func pages(relay *derpserver.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/derp", derpserver.AddWebSocketSupport(relay, derpserver.Handler(relay)))
	mux.HandleFunc("/derp/probe", derpserver.ProbeHandler)
	mux.HandleFunc("/derp/latency-check", derpserver.ProbeHandler)
	mux.HandleFunc("/generate_204", derpserver.ServeNoContent)
	return mux
}

// tlsConfig serves the certificate, with the one that tells clients the relay's key behind it.
func tlsConfig(relay *derpserver.Server, certificate *tls.Certificate) *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// DERP takes over the connection, which HTTP/2 does not allow.
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate, nil
		},
	}
	relay.ModifyTLSConfigToAddMetaCert(config)
	return config
}

// selfSigned makes a certificate for loopback that is good for a day.
func selfSigned() (*tls.Certificate, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "127.0.0.1"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

// mesh makes relay forward to the server at address what is for its clients, until ctx is done.
func mesh(ctx context.Context, relay *derpserver.Server, address string, useTLS bool) error {
	if !relay.HasMeshKey() {
		return errors.New("needs -mesh-psk-file")
	}
	logf := func(string, ...any) {}
	client, err := dialer(relay, address, useTLS, logf)
	if err != nil {
		return err
	}
	client.MeshKey = relay.MeshKey()
	client.WatchConnectionChanges = true
	add := func(m derp.PeerPresentMessage) { relay.AddPacketForwarder(m.Key, client) }
	remove := func(m derp.PeerGoneMessage) { relay.RemovePacketForwarder(m.Peer, client) }
	go client.RunWatchConnectionLoop(ctx, relay.PublicKey(), logf, add, remove, func(error) {})
	return nil
}

// dialer is a client of the server at address. Nobody knows certificates that are made at start,
// so over TLS it takes any: both ends of a bench are on one host.
func dialer(relay *derpserver.Server, address string, useTLS bool, logf logger.Logf) (*derphttp.Client, error) {
	if !useTLS {
		return derphttp.NewClient(relay.PrivateKey(), "http://"+address+"/derp", logf, netmon.NewStatic())
	}
	other, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "mesh", Nodes: []*tailcfg.DERPNode{{
		Name:             "1a",
		RegionID:         1,
		HostName:         other.Addr().String(),
		DERPPort:         int(other.Port()),
		InsecureForTests: true,
	}}}
	return derphttp.NewRegionClient(relay.PrivateKey(), logf, netmon.NewStatic(), func() *tailcfg.DERPRegion { return region }), nil
}
