// Command join is a Tailscale node for tests of the bridge: it joins a Headscale with a pre-auth
// key, says so, and stays until its standard input ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"tailscale.com/tsnet"
	"tailscale.com/types/logger"
)

// Far beyond what it takes.
const patience = time.Minute

func main() {
	control := flag.String("control", "", "URL of Headscale")
	keyFile := flag.String("key-file", "", "file with the pre-auth key")
	name := flag.String("name", "", "name of the machine")
	folder := flag.String("folder", "", "folder for its state")
	flag.Parse()
	if err := join(*control, *keyFile, *name, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
}

func join(control, keyFile, name, folder string) error {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	node := &tsnet.Server{
		Dir:        folder,
		Hostname:   name,
		ControlURL: control,
		AuthKey:    strings.TrimSpace(string(key)),
		Logf:       logger.Discard,
		UserLogf:   logger.Discard,
	}
	defer node.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := node.Up(ctx); err != nil {
		return err
	}
	fmt.Println("joined")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
