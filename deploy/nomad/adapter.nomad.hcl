# The adapter for Nomad itself, beside an agent: nomad job run deploy/nomad/adapter.nomad.hcl
#
# First, once: nomad var put nomad/jobs/weft-adapter join_token=TOKEN, with the token that
# `weft token create --adapter nomad/global` prints. The identity is kept on the host volume weft-adapter, which the user
# 65532 must be able to write, and renewed after that.
variable "image" {
  type    = string
  default = "weft"
}

job "weft-adapter" {
  type = "service"

  group "adapter" {
    # A source has one speaker: of two, each would take the word from the other.
    count = 1

    network {
      mode = "host"
    }

    volume "state" {
      type   = "host"
      source = "weft-adapter"
    }

    task "adapter" {
      driver = "docker"
      user   = "65532:65532"

      # A token that may read jobs and nodes: bind a policy with read-job and node read to this job.
      identity {
        file = true
      }

      template {
        destination = "secrets/join-token"
        perms       = "0444"
        data        = "{{ with nomadVar \"nomad/jobs/weft-adapter\" }}{{ .join_token }}{{ end }}"
      }

      template {
        destination = "local/control.env"
        env         = true
        data        = "{{ range nomadService \"weft-control\" }}WEFT_CONTROL=https://{{ .Address }}:{{ .Port }}\n{{ end }}"
      }

      env {
        NOMAD_ADDR = "http://127.0.0.1:4646"
      }

      config {
        image        = var.image
        network_mode = "host"
        args = [
          "adapter", "nomad",
          "--name", "nomad/global",
          "--token-file", "/secrets/nomad_token",
          "--data-dir", "/var/lib/weft",
          "--join-token-file", "/secrets/join-token"
        ]
      }

      volume_mount {
        volume      = "state"
        destination = "/var/lib/weft"
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
