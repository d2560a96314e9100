from dataclasses import dataclass
import librosa, numpy as np
@dataclass(frozen=True)
class Prosody:
    log_f0: np.ndarray
    voiced: np.ndarray
    voicing: np.ndarray
    energy: np.ndarray
    tempo: np.ndarray
def extract_prosody(waveform, sampling_rate, hop_length=256):
    f0, v, p = librosa.pyin(waveform.astype(float), fmin=60, fmax=600, sr=sampling_rate, hop_length=hop_length, frame_length=2048)
    n=len(waveform)//hop_length+1
    f0,v,p=f0[:n],v[:n],p[:n]
    lf=np.log(np.where(v,f0,120.)); e=np.zeros(n)
    return Prosody(lf.astype(np.float32), v, p.astype(np.float32), e, e)
